//! Model configuration from a Hugging Face `config.json`.
