;; As little as a component can be and still have a memory: for comparing with bare wasmtime. The memory is touched once, as any guest does.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
  (func (export "coldframe:function/handler@0.1.0#handle") (param i32) (result i32)
    (i32.store8 (i32.const 768) (i32.const 0))
    (i32.const 768)))
