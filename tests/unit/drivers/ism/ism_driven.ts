/** One virtio-ism device and its driver. */
import { assertEquals } from "@std/assert";
import { VirtioIsm, type VirtioIsmOptions } from "../../../../drivers/ism/virtio_ism.ts";
import { mappingCount } from "../../../../ffi/mod.ts";
import { ModelIsm, type ModelIsmOptions } from "./model_ism.ts";

/** A device and its driver; afterwards nothing is mapped. */
export async function withIsm(
  use: (ism: VirtioIsm, model: ModelIsm) => Promise<void> | void,
  options: VirtioIsmOptions = {},
  device: ModelIsmOptions = {},
): Promise<void> {
  const before = mappingCount();
  {
    using model = new ModelIsm(device);
    await using ism = await VirtioIsm.open(model.transport, options);
    await use(ism, model);
  }
  assertEquals(mappingCount(), before);
}
