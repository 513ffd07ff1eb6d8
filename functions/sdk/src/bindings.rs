//! Types and calls of the world `function`, made from `function.wit`. Its words are explained there.

wit_bindgen::generate!({
    world: "function",
    path: "../wit",
    pub_export_macro: true,
    export_macro_name: "export_function",
    default_bindings_module: "coldframe_function::macros::bindings",
});
