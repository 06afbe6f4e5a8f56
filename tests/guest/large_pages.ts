/** What runs in an AArch64 guest with pages of 64 KiB: all that counts pages. */
import "../unit/ffi/memory_test.ts";
import "../unit/memory/dma_test.ts";
import "../unit/memory/shared_dma_test.ts";
import "../unit/sockets/vfio_user/page_sizes_test.ts";
import "../unit/vfio/kernel/kernel_device_test.ts";
import "./rng_test.ts";
