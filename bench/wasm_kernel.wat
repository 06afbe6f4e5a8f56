;; The burst loops of a queue whose chains are slots, driver's side: slots are added, published, taken back, with the checks of SplitQueue and PackedQueue.
;; A queue is a record of 32-bit words at $q; its arrays and the ring are in the same memory:
;;   0 descriptors   4 driver area   8 device area   12 size   16 slots   20 bytes of each   24 descriptor flags
;;  28 next to fill  32 wrap there (flags AVAIL or USED)  36 next used  40 flags of used there (BOTH or 0)  44 filled and not published
;;  48 first head that is not visible (packed; -1)  52 its flags  56 chains in flight  60 EVENT_IDX
;;  64 numbers, by slot, 64 bit: 0, or of the commit   68 writable bytes by slot   72 addresses by slot: low, high, length, unused
;;  80 committed (64 bit)   88 published (64 bit)
(module
  (import "ring" "memory" (memory 1 65536))

  ;; @returns the length that counts of a chain that is in flight and published; -1 when it is none, or what the device claims to have written is too long
  (func $judge (param $q i32) (param $id i32) (param $length i32) (param $flags i32) (result i32)
    (local $number i64)
    (if (i32.ge_u (local.get $id) (i32.load offset=16 (local.get $q))) (then (return (i32.const -1))))
    (local.set $number
      (i64.load (i32.add (i32.load offset=64 (local.get $q)) (i32.shl (local.get $id) (i32.const 3)))))
    (if (i64.eqz (local.get $number)) (then (return (i32.const -1))))
    (if (i64.gt_u (local.get $number) (i64.load offset=88 (local.get $q))) (then (return (i32.const -1))))
    (if (i32.le_u (local.get $length)
        (i32.load (i32.add (i32.load offset=68 (local.get $q)) (i32.shl (local.get $id) (i32.const 2)))))
      (then (return (local.get $length))))
    ;; A used descriptor of a packed ring without WRITE has no length.
    (select (i32.const -1) (i32.const 0) (i32.and (local.get $flags) (i32.const 2))))

  ;; @returns how many were added: up to the first that cannot be
  (func (export "addSplit")
    (param $q i32) (param $slots i32) (param $lengths i32) (param $count i32) (param $head i32) (result i32)
    (local $done i32) (local $id i32) (local $length i32) (local $next i32) (local $mask i32) (local $available i32)
    (local $bound i32) (local $most i32) (local $numbers i32) (local $descriptors i32) (local $parts i32)
    (local $writable i32) (local $committed i64) (local $at i32)
    (local.set $next (i32.load offset=28 (local.get $q)))
    (local.set $mask (i32.sub (i32.load offset=12 (local.get $q)) (i32.const 1)))
    (local.set $available (i32.add (i32.load offset=4 (local.get $q)) (i32.const 4)))
    (local.set $bound (i32.load offset=16 (local.get $q)))
    (local.set $most (i32.load offset=20 (local.get $q)))
    (local.set $numbers (i32.load offset=64 (local.get $q)))
    (local.set $writable (i32.load offset=68 (local.get $q)))
    (local.set $parts (i32.load offset=72 (local.get $q)))
    (local.set $descriptors (i32.load (local.get $q)))
    (local.set $committed (i64.load offset=80 (local.get $q)))
    (block $end
      (loop $more
        (br_if $end (i32.ge_u (local.get $done) (local.get $count)))
        (local.set $id (i32.load16_u (i32.add (local.get $slots) (i32.shl (local.get $done) (i32.const 1)))))
        (local.set $length (local.get $most))
        (if (local.get $lengths) (then
          (local.set $length (i32.add (local.get $head)
            (i32.load (i32.add (local.get $lengths) (i32.shl (local.get $done) (i32.const 2))))))))
        (br_if $end (i32.ge_u (local.get $id) (local.get $bound)))
        (br_if $end (i32.eqz (local.get $length)))
        (br_if $end (i32.gt_u (local.get $length) (local.get $most)))
        (local.set $at (i32.add (local.get $numbers) (i32.shl (local.get $id) (i32.const 3))))
        (br_if $end (i64.ne (i64.load (local.get $at)) (i64.const 0)))
        (local.set $committed (i64.add (local.get $committed) (i64.const 1)))
        (i64.store (local.get $at) (local.get $committed))
        (local.set $at (i32.add (local.get $parts) (i32.shl (local.get $id) (i32.const 4))))
        (if (i32.ne (i32.load offset=8 (local.get $at)) (local.get $length)) (then
          (i32.store offset=8 (local.get $at) (local.get $length))
          (i32.store offset=8 (i32.add (local.get $descriptors) (i32.shl (local.get $id) (i32.const 4)))
            (local.get $length))))
        (if (i32.load offset=24 (local.get $q)) (then
          (i32.store (i32.add (local.get $writable) (i32.shl (local.get $id) (i32.const 2))) (local.get $length))))
        (local.set $at
          (i32.add (local.get $available) (i32.shl (i32.and (local.get $next) (local.get $mask)) (i32.const 1))))
        (if (i32.ne (i32.load16_u (local.get $at)) (local.get $id)) (then
          (i32.store16 (local.get $at) (local.get $id))))
        (local.set $next (i32.add (local.get $next) (i32.const 1)))
        (local.set $done (i32.add (local.get $done) (i32.const 1)))
        (br $more)))
    (i32.store offset=28 (local.get $q) (i32.and (local.get $next) (i32.const 0xffff)))
    (call $added (local.get $q) (local.get $done) (local.get $committed))
    (local.get $done))

  (func $added (param $q i32) (param $count i32) (param $committed i64)
    (i64.store offset=80 (local.get $q) (local.get $committed))
    (i32.store offset=44 (local.get $q) (i32.add (i32.load offset=44 (local.get $q)) (local.get $count)))
    (i32.store offset=56 (local.get $q) (i32.add (i32.load offset=56 (local.get $q)) (local.get $count))))

  ;; @returns 1 when the device must be notified
  (func (export "publishSplit") (param $q i32) (result i32)
    (local $count i32) (local $next i32) (local $used i32)
    (local.set $count (i32.load offset=44 (local.get $q)))
    (if (i32.eqz (local.get $count)) (then (return (i32.const 0))))
    (i32.store offset=44 (local.get $q) (i32.const 0))
    (i64.store offset=88 (local.get $q) (i64.load offset=80 (local.get $q)))
    (local.set $next (i32.load offset=28 (local.get $q)))
    (local.set $used (i32.load offset=8 (local.get $q)))
    (i32.atomic.store16 offset=2 (i32.load offset=4 (local.get $q)) (local.get $next))
    (if (i32.eqz (i32.load offset=60 (local.get $q)))
      (then (return (i32.eqz (i32.and (i32.atomic.load16_u (local.get $used)) (i32.const 1))))))
    (i32.lt_u
      (i32.and (i32.const 0xffff)
        (i32.sub (i32.sub (local.get $next) (i32.const 1))
          (i32.atomic.load16_u offset=4
            (i32.add (local.get $used) (i32.shl (i32.load offset=12 (local.get $q)) (i32.const 3))))))
      (local.get $count)))

  ;; @returns how many; -1 - how many before it when one is wrong
  (func (export "takeSplit") (param $q i32) (param $ids i32) (param $lengths i32) (param $max i32) (result i32)
    (local $from i32) (local $count i32) (local $mask i32) (local $done i32) (local $at i32) (local $id i32)
    (local $length i32) (local $used i32) (local $numbers i32) (local $wrong i32)
    (local.set $used (i32.load offset=8 (local.get $q)))
    (local.set $from (i32.load offset=36 (local.get $q)))
    (local.set $count
      (i32.and (i32.const 0xffff) (i32.sub (i32.atomic.load16_u offset=2 (local.get $used)) (local.get $from))))
    (if (i32.gt_u (local.get $count)
        (i32.sub (i32.load offset=56 (local.get $q)) (i32.load offset=44 (local.get $q))))
      (then (return (i32.const -1))))
    (if (i32.gt_u (local.get $count) (local.get $max)) (then (local.set $count (local.get $max))))
    (local.set $mask (i32.sub (i32.load offset=12 (local.get $q)) (i32.const 1)))
    (local.set $numbers (i32.load offset=64 (local.get $q)))
    (block $end
      (loop $more
        (br_if $end (i32.ge_u (local.get $done) (local.get $count)))
        (local.set $at (i32.add (i32.add (local.get $used) (i32.const 4))
          (i32.shl (i32.and (local.get $from) (local.get $mask)) (i32.const 3))))
        (local.set $id (i32.load (local.get $at)))
        (local.set $length
          (call $judge (local.get $q) (local.get $id) (i32.load offset=4 (local.get $at)) (i32.const 2)))
        (if (i32.lt_s (local.get $length) (i32.const 0)) (then
          (local.set $wrong (i32.const 1))
          (br $end)))
        (i64.store (i32.add (local.get $numbers) (i32.shl (local.get $id) (i32.const 3))) (i64.const 0))
        (i32.store16 (i32.add (local.get $ids) (i32.shl (local.get $done) (i32.const 1))) (local.get $id))
        (i32.store (i32.add (local.get $lengths) (i32.shl (local.get $done) (i32.const 2))) (local.get $length))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (local.set $done (i32.add (local.get $done) (i32.const 1)))
        (br $more)))
    (i32.store offset=36 (local.get $q) (i32.and (local.get $from) (i32.const 0xffff)))
    (i32.store offset=56 (local.get $q) (i32.sub (i32.load offset=56 (local.get $q)) (local.get $done)))
    (if (result i32) (local.get $wrong)
      (then (i32.sub (i32.const -1) (local.get $done)))
      (else (local.get $done))))

  ;; As addSplit.
  (func (export "addPacked")
    (param $q i32) (param $slots i32) (param $lengths i32) (param $count i32) (param $head i32) (result i32)
    (local $done i32) (local $id i32) (local $length i32) (local $next i32) (local $flags i32)
    (local $bound i32) (local $most i32) (local $numbers i32) (local $descriptors i32) (local $parts i32)
    (local $writable i32) (local $committed i64) (local $at i32) (local $part i32) (local $size i32)
    (local.set $next (i32.load offset=28 (local.get $q)))
    (local.set $flags (i32.or (i32.load offset=32 (local.get $q)) (i32.load offset=24 (local.get $q))))
    (local.set $size (i32.load offset=12 (local.get $q)))
    (local.set $bound (i32.load offset=16 (local.get $q)))
    (local.set $most (i32.load offset=20 (local.get $q)))
    (local.set $numbers (i32.load offset=64 (local.get $q)))
    (local.set $writable (i32.load offset=68 (local.get $q)))
    (local.set $parts (i32.load offset=72 (local.get $q)))
    (local.set $descriptors (i32.load (local.get $q)))
    (local.set $committed (i64.load offset=80 (local.get $q)))
    (block $end
      (loop $more
        (br_if $end (i32.ge_u (local.get $done) (local.get $count)))
        (local.set $id (i32.load16_u (i32.add (local.get $slots) (i32.shl (local.get $done) (i32.const 1)))))
        (local.set $length (local.get $most))
        (if (local.get $lengths) (then
          (local.set $length (i32.add (local.get $head)
            (i32.load (i32.add (local.get $lengths) (i32.shl (local.get $done) (i32.const 2))))))))
        (br_if $end (i32.ge_u (local.get $id) (local.get $bound)))
        (br_if $end (i32.eqz (local.get $length)))
        (br_if $end (i32.gt_u (local.get $length) (local.get $most)))
        (local.set $at (i32.add (local.get $numbers) (i32.shl (local.get $id) (i32.const 3))))
        (br_if $end (i64.ne (i64.load (local.get $at)) (i64.const 0)))
        (local.set $committed (i64.add (local.get $committed) (i64.const 1)))
        (i64.store (local.get $at) (local.get $committed))
        (local.set $part (i32.add (local.get $parts) (i32.shl (local.get $id) (i32.const 4))))
        (local.set $at (i32.add (local.get $descriptors) (i32.shl (local.get $next) (i32.const 4))))
        (i64.store (local.get $at) (i64.load (local.get $part)))
        (i32.store offset=8 (local.get $at) (local.get $length))
        (i32.store offset=8 (local.get $part) (local.get $length))
        (if (i32.lt_s (i32.load offset=48 (local.get $q)) (i32.const 0))
          (then
            (i32.store offset=48 (local.get $q) (local.get $next))
            (i32.store offset=52 (local.get $q) (local.get $flags))
            (i32.store16 offset=12 (local.get $at) (local.get $id)))
          (else
            (i32.store offset=12 (local.get $at)
              (i32.or (local.get $id) (i32.shl (local.get $flags) (i32.const 16))))))
        (if (i32.load offset=24 (local.get $q)) (then
          (i32.store (i32.add (local.get $writable) (i32.shl (local.get $id) (i32.const 2))) (local.get $length))))
        (local.set $next (i32.add (local.get $next) (i32.const 1)))
        (if (i32.eq (local.get $next) (local.get $size)) (then
          (local.set $next (i32.const 0))
          (local.set $flags (i32.xor (local.get $flags) (i32.const 0x8080)))))
        (local.set $done (i32.add (local.get $done) (i32.const 1)))
        (br $more)))
    (i32.store offset=28 (local.get $q) (local.get $next))
    (i32.store offset=32 (local.get $q) (i32.and (local.get $flags) (i32.const 0x8080)))
    (call $added (local.get $q) (local.get $done) (local.get $committed))
    (local.get $done))

  ;; As publishSplit.
  (func (export "publishPacked") (param $q i32) (result i32)
    (local $count i32) (local $event i32) (local $size i32) (local $behind i32)
    (local.set $count (i32.load offset=44 (local.get $q)))
    (if (i32.eqz (local.get $count)) (then (return (i32.const 0))))
    (i32.store offset=44 (local.get $q) (i32.const 0))
    (i64.store offset=88 (local.get $q) (i64.load offset=80 (local.get $q)))
    (i32.atomic.store16 offset=14
      (i32.add (i32.load (local.get $q)) (i32.shl (i32.load offset=48 (local.get $q)) (i32.const 4)))
      (i32.load offset=52 (local.get $q)))
    (i32.store offset=48 (local.get $q) (i32.const -1))
    (local.set $event (i32.atomic.load (i32.load offset=8 (local.get $q))))
    (local.set $size (i32.load offset=12 (local.get $q)))
    (if (i32.eq (i32.and (i32.shr_u (local.get $event) (i32.const 16)) (i32.const 3)) (i32.const 1))
      (then (return (i32.const 0))))
    (if (i32.or (i32.eqz (i32.load offset=60 (local.get $q)))
        (i32.or
          (i32.ne (i32.and (i32.shr_u (local.get $event) (i32.const 16)) (i32.const 3)) (i32.const 2))
          (i32.ge_u (i32.and (local.get $event) (i32.const 0x7fff)) (local.get $size))))
      (then (return (i32.const 1))))
    (local.set $behind (i32.sub (i32.sub (i32.load offset=28 (local.get $q)) (i32.const 1))
      (i32.and (local.get $event) (i32.const 0x7fff))))
    (if (i32.ne (i32.and (i32.shr_u (local.get $event) (i32.const 15)) (i32.const 1))
        (i32.eq (i32.load offset=32 (local.get $q)) (i32.const 0x80)))
      (then (local.set $behind (i32.add (local.get $behind) (local.get $size)))))
    (if (i32.lt_s (local.get $behind) (i32.const 0))
      (then (local.set $behind (i32.add (local.get $behind) (i32.shl (local.get $size) (i32.const 1))))))
    (i32.lt_s (local.get $behind) (local.get $count)))

  ;; As takeSplit.
  (func (export "takePacked") (param $q i32) (param $ids i32) (param $lengths i32) (param $max i32) (result i32)
    (local $slot i32) (local $want i32) (local $done i32) (local $at i32) (local $id i32) (local $length i32)
    (local $size i32) (local $numbers i32) (local $held i32) (local $wrong i32) (local $flags i32)
    (local.set $slot (i32.load offset=36 (local.get $q)))
    (local.set $want (i32.load offset=40 (local.get $q)))
    (local.set $size (i32.load offset=12 (local.get $q)))
    (local.set $numbers (i32.load offset=64 (local.get $q)))
    (local.set $held (i32.sub (i32.load offset=56 (local.get $q)) (i32.load offset=44 (local.get $q))))
    (block $end
      (loop $more
        (br_if $end (i32.ge_u (local.get $done) (local.get $max)))
        (local.set $at (i32.add (i32.load (local.get $q)) (i32.shl (local.get $slot) (i32.const 4))))
        (local.set $flags (i32.atomic.load16_u offset=14 (local.get $at)))
        (br_if $end (i32.ne (i32.and (local.get $flags) (i32.const 0x8080)) (local.get $want)))
        (local.set $id (i32.load16_u offset=12 (local.get $at)))
        (local.set $length
          (call $judge (local.get $q) (local.get $id) (i32.load offset=8 (local.get $at)) (local.get $flags)))
        (if (i32.or (i32.eq (local.get $done) (local.get $held)) (i32.lt_s (local.get $length) (i32.const 0))) (then
          (local.set $wrong (i32.const 1))
          (br $end)))
        (i64.store (i32.add (local.get $numbers) (i32.shl (local.get $id) (i32.const 3))) (i64.const 0))
        (i32.store16 (i32.add (local.get $ids) (i32.shl (local.get $done) (i32.const 1))) (local.get $id))
        (i32.store (i32.add (local.get $lengths) (i32.shl (local.get $done) (i32.const 2))) (local.get $length))
        (local.set $slot (i32.add (local.get $slot) (i32.const 1)))
        (if (i32.eq (local.get $slot) (local.get $size)) (then
          (local.set $slot (i32.const 0))
          (local.set $want (i32.xor (local.get $want) (i32.const 0x8080)))))
        (local.set $done (i32.add (local.get $done) (i32.const 1)))
        (br $more)))
    (i32.store offset=36 (local.get $q) (local.get $slot))
    (i32.store offset=40 (local.get $q) (local.get $want))
    (i32.store offset=56 (local.get $q) (i32.sub (i32.load offset=56 (local.get $q)) (local.get $done)))
    (if (result i32) (local.get $wrong)
      (then (i32.sub (i32.const -1) (local.get $done)))
      (else (local.get $done)))))
