;; A guest that does what the request's body says: a script of host calls and misdeeds, one byte for each, with its arguments
;; behind it (u8, or u32 little-endian). Used by tests and by the fuzzers; see README.md.
;;
;; Memory: handles at 256, the result of the last host call at 512, the handler's own result at 768, a task of zeros at 2048,
;; literals at 4096, what the host lowers from 65536 on.
(module
  (import "coldframe:function/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (import "coldframe:function/reply@0.1.0" "start" (func $start (param i32 i32 i32 i32)))
  (import "coldframe:function/reply@0.1.0" "write" (func $write (param i32 i32 i32)))
  (import "coldframe:function/reply@0.1.0" "write-bytes" (func $write_bytes (param i32 i32 i32)))
  (import "coldframe:function/reply@0.1.0" "finish" (func $finish (param i32 i32)))
  (import "coldframe:function/model@0.1.0" "[constructor]generation" (func $generation (param i32) (result i32)))
  (import "coldframe:function/model@0.1.0" "[method]generation.next" (func $next (param i32 i32)))
  (import "coldframe:function/model@0.1.0" "[method]generation.finish" (func $finish_text (param i32 i32)))
  (import "coldframe:function/model@0.1.0" "[method]generation.cancel" (func $cancel (param i32)))
  (import "coldframe:function/model@0.1.0" "[resource-drop]generation" (func $drop (param i32)))
  (import "coldframe:function/model@0.1.0" "wait-any" (func $wait_any (param i32 i32 i32)))
  (import "coldframe:function/model@0.1.0" "tokenize" (func $tokenize (param i32 i32 i32)))
  (import "coldframe:function/model@0.1.0" "detokenize" (func $detokenize (param i32 i32 i32)))
  (import "coldframe:function/model@0.1.0" "adapters" (func $adapters (param i32)))
  (import "coldframe:function/state@0.1.0" "get" (func $state_get (param i32 i32 i32)))
  (import "coldframe:function/state@0.1.0" "set" (func $state_set (param i32 i32 i32 i32 i32)))
  (import "coldframe:function/state@0.1.0" "delete" (func $state_delete (param i32 i32 i32)))
  (import "coldframe:function/state@0.1.0" "keys" (func $state_keys (param i32 i32 i32)))
  (import "coldframe:function/clock@0.1.0" "now-ms" (func $now (result i64)))
  (import "coldframe:function/random@0.1.0" "bytes" (func $random (param i32 i32)))
  (import "coldframe:function/http@0.1.0" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))

  (memory (export "memory") 2)
  (table $table 1 10000000 funcref)
  (global $bump (mut i32) (i32.const 65536))
  (global $at (mut i32) (i32.const 0))
  (global $end (mut i32) (i32.const 0))
  (global $begin (mut i32) (i32.const 0))
  (global $secret (mut i32) (i32.const 0))
  (data (i32.const 900) "GET")
  (data (i32.const 904) "asked for")
  (data (i32.const 916) "clean")
  (data (i32.const 924) "dirty")

  (func $realloc (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $place i32)
    (local.set $place
      (i32.and (i32.add (global.get $bump) (i32.sub (local.get $align) (i32.const 1)))
               (i32.sub (i32.const 0) (local.get $align))))
    (global.set $bump (i32.add (local.get $place) (local.get $size)))
    (if (i32.gt_u (global.get $bump) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow
        (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536)))))))
    (if (local.get $old_size)
      (then (memory.copy (local.get $place) (local.get $old) (local.get $old_size))))
    (local.get $place))

  (func $u8 (result i32)
    (local $value i32)
    (if (i32.ge_u (global.get $at) (global.get $end)) (then (return (i32.const 0))))
    (local.set $value (i32.load8_u (global.get $at)))
    (global.set $at (i32.add (global.get $at) (i32.const 1)))
    (local.get $value))

  (func $u32 (result i32)
    (i32.or (i32.or (call $u8) (i32.shl (call $u8) (i32.const 8)))
            (i32.or (i32.shl (call $u8) (i32.const 16)) (i32.shl (call $u8) (i32.const 24)))))

  ;; Address of the handle that the next byte names.
  (func $slot (result i32)
    (i32.add (i32.const 256) (i32.shl (i32.and (call $u8) (i32.const 15)) (i32.const 2))))

  (func $recurse (param $n i64) (result i64)
    (i64.add (local.get $n) (call $recurse (i64.add (local.get $n) (i64.const 1)))))

  (func $say (param $text i32) (param $len i32)
    (call $write (local.get $text) (local.get $len) (i32.const 640)))

  ;; Forwards a generation's tokens until something else comes.
  (func $stream (param $handle i32)
    (loop $more
      (call $next (local.get $handle) (i32.const 512))
      (if (i32.load8_u (i32.const 512)) (then (return)))
      (if (i32.eqz (i32.load8_u (i32.const 516))) (then (return)))
      (if (i32.load8_u (i32.const 520)) (then (return)))
      (call $say (i32.load (i32.const 528)) (i32.load (i32.const 532)))
      (br_if $more (i32.eqz (i32.load8_u (i32.const 640))))))

  ;; `clean` where memory between 16384 and 65536, the table and the global are as they were made.
  (func $inspect
    (local $place i32)
    (local.set $place (i32.const 16384))
    (block $dirty
      (br_if $dirty (global.get $secret))
      (br_if $dirty (i32.ne (table.size $table) (i32.const 1)))
      (loop $more
        (br_if $dirty (i64.ne (i64.load (local.get $place)) (i64.const 0)))
        (local.set $place (i32.add (local.get $place) (i32.const 8)))
        (br_if $more (i32.lt_u (local.get $place) (i32.const 65536))))
      (call $say (i32.const 916) (i32.const 5))
      (return))
    (call $say (i32.const 924) (i32.const 5)))

  (func $soil
    (memory.fill (i32.const 16384) (i32.const 0xa5) (i32.const 49152))
    (global.set $secret (i32.const 1))
    (drop (table.grow $table (ref.null func) (i32.const 3))))

  (func $spread (param $pages i32)
    (local $place i32)
    (drop (memory.grow (local.get $pages)))
    (local.set $place (i32.const 131072))
    (block $done
      (loop $more
        (br_if $done (i32.ge_u (local.get $place) (i32.mul (memory.size) (i32.const 65536))))
        (i32.store8 (local.get $place) (i32.const 1))
        (local.set $place (i32.add (local.get $place) (i32.const 4096)))
        (br $more))))

  (func $host (param $op i32)
    (local $text i32) (local $len i32) (local $slot i32)
    (if (i32.eq (local.get $op) (i32.const 1)) (then
      (call $log (i32.and (call $u8) (i32.const 3)) (call $u32) (call $u32)) (return)))
    (if (i32.eq (local.get $op) (i32.const 2)) (then
      (call $write (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 3)) (then
      (local.set $slot (call $slot))
      (i32.store (local.get $slot) (call $generation (i32.const 2048))) (return)))
    (if (i32.eq (local.get $op) (i32.const 4)) (then
      (call $next (i32.load (call $slot)) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 5)) (then
      (call $cancel (i32.load (call $slot))) (return)))
    (if (i32.eq (local.get $op) (i32.const 6)) (then
      (call $drop (i32.load (call $slot))) (return)))
    (if (i32.eq (local.get $op) (i32.const 7)) (then
      (call $wait_any (i32.const 256) (i32.and (call $u8) (i32.const 15)) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 13)) (then (drop (call $now)) (return)))
    (if (i32.eq (local.get $op) (i32.const 14)) (then (call $random (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 15)) (then
      (call $state_get (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 16)) (then
      (call $state_set (call $u32) (call $u32) (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 18)) (then
      (call $write_bytes (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 19)) (then
      (call $start (i32.and (call $u32) (i32.const 65535)) (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 20)) (then (call $finish (call $u32) (call $u32)) (return)))
    (if (i32.eq (local.get $op) (i32.const 21)) (then
      (call $send (i32.const 900) (i32.const 3) (call $u32) (call $u32)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 22)) (then
      (call $tokenize (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 23)) (then
      (call $state_keys (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 24)) (then
      (call $state_delete (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 26)) (then (call $next (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 31)) (then
      (call $finish_text (i32.load (call $slot)) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 36)) (then (call $stream (i32.load (call $slot))) (return)))
    (if (i32.eq (local.get $op) (i32.const 37)) (then
      (call $detokenize (call $u32) (call $u32) (i32.const 512)) (return)))
    (if (i32.eq (local.get $op) (i32.const 38)) (then (call $adapters (i32.const 512)) (return)))
    (call $own (local.get $op)))

  (func $own (param $op i32)
    (local $len i32)
    (if (i32.eq (local.get $op) (i32.const 8)) (then (loop $for_ever (br $for_ever))))
    (if (i32.eq (local.get $op) (i32.const 9)) (then (drop (memory.grow (call $u32))) (return)))
    (if (i32.eq (local.get $op) (i32.const 10)) (then (drop (call $recurse (i64.const 0))) (return)))
    (if (i32.eq (local.get $op) (i32.const 11)) (then
      (drop (table.grow $table (ref.null func) (call $u32))) (return)))
    (if (i32.eq (local.get $op) (i32.const 12)) (then (unreachable)))
    (if (i32.eq (local.get $op) (i32.const 17)) (then (global.set $at (global.get $begin)) (return)))
    ;; Grows by u32 pages and touches each page of 4 KiB that it has.
    (if (i32.eq (local.get $op) (i32.const 39)) (then (call $spread (call $u32)) (return)))
    ;; A task of the script's own: u32 bytes of it at a place.
    (if (i32.eq (local.get $op) (i32.const 27)) (then
      (memory.copy (i32.const 2048) (call $u32) (i32.const 160)) (return)))
    (if (i32.eq (local.get $op) (i32.const 28)) (then (call $soil) (return)))
    (if (i32.eq (local.get $op) (i32.const 29)) (then (call $inspect) (return)))
    ;; A literal to 4096: its length, then it.
    (if (i32.eq (local.get $op) (i32.const 32)) (then
      (local.set $len (call $u8))
      (memory.copy (i32.const 4096) (global.get $at) (local.get $len))
      (global.set $at (i32.add (global.get $at) (local.get $len))) (return)))
    ;; Says whether the last result was a success, and the failure's word.
    (if (i32.eq (local.get $op) (i32.const 34)) (then
      (if (i32.load8_u (i32.const 512))
        (then (call $say (i32.load (i32.const 516)) (i32.load (i32.const 520)))))
      (return)))
    ;; Says the text or bytes of the last result.
    (if (i32.eq (local.get $op) (i32.const 35)) (then
      (call $say (i32.load (i32.const 516)) (i32.load (i32.const 520))) (return))))

  (func (export "coldframe:function/handler@0.1.0#handle") (param $request i32) (result i32)
    (local $op i32)
    (global.set $begin (i32.load offset=28 (local.get $request)))
    (global.set $at (global.get $begin))
    (global.set $end (i32.add (global.get $begin) (i32.load offset=32 (local.get $request))))
    (block $done
      (loop $more
        (br_if $done (i32.ge_u (global.get $at) (global.get $end)))
        (local.set $op (call $u8))
        (br_if $done (i32.eqz (local.get $op)))
        (if (i32.eq (local.get $op) (i32.const 25)) (then
          (i32.store8 (i32.const 768) (i32.const 1))
          (i32.store (i32.const 772) (i32.const 904))
          (i32.store (i32.const 776) (i32.const 5))
          (i32.store (i32.const 780) (i32.const 904))
          (i32.store (i32.const 784) (i32.const 9))
          (return (i32.const 768))))
        (call $host (local.get $op))
        (br $more)))
    (i32.const 768)))
