;; A guest with a token hook. Its handler streams one generation whose hook gets the request's body as context; the hook does
;; what the first byte of that says. Used by tests; see README.md.
(module
  (import "coldframe:function/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (import "coldframe:function/clock@0.1.0" "now-ms" (func $now (result i64)))
  (import "coldframe:function/reply@0.1.0" "write" (func $write (param i32 i32 i32)))
  (import "coldframe:function/model@0.1.0" "[constructor]generation" (func $generation (param i32) (result i32)))
  (import "coldframe:function/model@0.1.0" "[method]generation.next" (func $next (param i32 i32)))

  (memory (export "memory") 2)
  (global $bump (mut i32) (i32.const 65536))
  (global $deed (mut i32) (i32.const 0))
  (global $seen (mut i32) (i32.const 0))
  (data (i32.const 900) "the hook speaks")
  ;; Two tokens, 3 and 5, for `only` and `forbid`; and the same with what is added to their logits.
  (data (i32.const 920) "\03\00\00\00\05\00\00\00")
  (data (i32.const 936) "\03\00\00\00\00\00\80\3f\05\00\00\00\00\00\80\bf")

  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $place i32)
    ;; The hook is called for ever: each lowering starts anew, far from what the handler holds.
    (if (i32.gt_u (i32.add (global.get $bump) (local.get $size)) (i32.const 130000))
      (then (global.set $bump (i32.const 65536))))
    (local.set $place (i32.and (i32.add (global.get $bump) (i32.const 7)) (i32.const -8)))
    (global.set $bump (i32.add (local.get $place) (local.get $size)))
    (local.get $place))

  (func (export "coldframe:function/handler@0.1.0#handle") (param $request i32) (result i32)
    (local $handle i32)
    (i32.store8 (i32.const 2192) (i32.const 1))
    (i32.store (i32.const 2196) (i32.load offset=28 (local.get $request)))
    (i32.store (i32.const 2200) (i32.load offset=32 (local.get $request)))
    (local.set $handle (call $generation (i32.const 2048)))
    (block $done
      (loop $more
        (call $next (local.get $handle) (i32.const 512))
        (if (i32.load8_u (i32.const 512)) (then
          ;; The failure becomes the call's own.
          (i32.store8 (i32.const 768) (i32.const 1))
          (i64.store (i32.const 772) (i64.load (i32.const 516)))
          (i64.store (i32.const 780) (i64.load (i32.const 524)))
          (return (i32.const 768))))
        (br_if $done (i32.eqz (i32.load8_u (i32.const 516))))
        (br_if $done (i32.load8_u (i32.const 520)))
        (call $write (i32.load (i32.const 528)) (i32.load (i32.const 532)) (i32.const 640))
        (br $more)))
    (i32.const 768))

  (func (export "coldframe:function/token-hook@0.1.0#begin") (param $text i32) (param $len i32)
    (if (local.get $len) (then (global.set $deed (i32.load8_u (local.get $text))))))

  (func $verdict (param $kind i32) (param $list i32) (param $len i32) (result i32)
    (i32.store8 (i32.const 512) (local.get $kind))
    (i32.store (i32.const 516) (local.get $list))
    (i32.store (i32.const 520) (local.get $len))
    (i32.const 512))

  (func (export "coldframe:function/token-hook@0.1.0#before-token")
    (param $some i32) (param $previous i32) (param $text i32) (param $len i32) (result i32)
    (global.set $seen (i32.add (global.get $seen) (i32.const 1)))
    ;; b, o, f: bias, only, forbid.
    (if (i32.eq (global.get $deed) (i32.const 98)) (then
      (return (call $verdict (i32.const 1) (i32.const 936) (i32.const 2)))))
    (if (i32.eq (global.get $deed) (i32.const 111)) (then
      (return (call $verdict (i32.const 2) (i32.const 920) (i32.const 2)))))
    (if (i32.eq (global.get $deed) (i32.const 102)) (then
      (return (call $verdict (i32.const 3) (i32.const 920) (i32.const 2)))))
    ;; e: ends before the fourth token.
    (if (i32.and (i32.eq (global.get $deed) (i32.const 101)) (i32.eq (global.get $seen) (i32.const 4))) (then
      (return (call $verdict (i32.const 4) (i32.const 0) (i32.const 0)))))
    ;; l, p, t, m, c, s: loops, fills memory for ever, traps, takes memory, asks the clock, speaks.
    (if (i32.eq (global.get $deed) (i32.const 108)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (global.get $deed) (i32.const 112)) (then
      (loop $for_ever
        (memory.fill (i32.const 65536) (i32.const 0) (i32.const 65536))
        (br $for_ever))))
    (if (i32.eq (global.get $deed) (i32.const 116)) (then (unreachable)))
    (if (i32.eq (global.get $deed) (i32.const 109)) (then (drop (memory.grow (i32.const 60000)))))
    (if (i32.eq (global.get $deed) (i32.const 99)) (then (drop (call $now))))
    (if (i32.eq (global.get $deed) (i32.const 115)) (then
      (call $log (i32.const 1) (i32.const 900) (i32.const 15))))
    (call $verdict (i32.const 0) (i32.const 0) (i32.const 0))))
