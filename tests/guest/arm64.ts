/**
 * What runs in an AArch64 guest with pages of 4 KiB: foreign calls, memory, rings, and kernel VFIO behind an SMMU with the main job. One list, since a
 * runtime for each file would take longer there than most files' tests.
 */
import "../unit/ffi/descriptors_test.ts";
import "../unit/ffi/errno_test.ts";
import "../unit/ffi/memory_test.ts";
import "../unit/ffi/timer_fd_test.ts";
import "../unit/memory/dma_test.ts";
import "../unit/vfio/kernel/abi_test.ts";
import "../unit/vfio/kernel/kernel_device_test.ts";
import "../unit/virtio/queue/bursts_test.ts";
import "../unit/virtio/queue/in_order_test.ts";
import "../unit/virtio/queue/packed_lies_test.ts";
import "../unit/virtio/queue/split_lies_test.ts";
import "./kernel_vfio_test.ts";
import "./demo_job_test.ts";
