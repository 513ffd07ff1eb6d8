//! safetensors files, with the checks the format leaves out.
