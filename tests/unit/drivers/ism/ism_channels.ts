/** Two virtio-ism devices of one domain in this process, and channels between them. */
import { assertEquals } from "@std/assert";
import { VirtioIsm, type VirtioIsmOptions } from "../../../../drivers/ism/virtio_ism.ts";
import {
  IsmChannel,
  type IsmChannelCreateOptions,
  type IsmChannelOptions,
} from "../../../../drivers/ism/ism_channel.ts";
import { mappingCount } from "../../../../ffi/mod.ts";
import { ModelIsm } from "./model_ism.ts";

/** A channel, and what it is between. */
export interface Ends {
  readonly a: IsmChannel;
  readonly b: IsmChannel;
  readonly one: VirtioIsm;
  readonly two: VirtioIsm;
  readonly first: ModelIsm;
  readonly second: ModelIsm;
}

/** Two devices of one domain in this process. */
export async function withDevices(
  use: (one: VirtioIsm, two: VirtioIsm, first: ModelIsm, second: ModelIsm) => Promise<void> | void,
  options: VirtioIsmOptions = {},
): Promise<void> {
  const before = mappingCount();
  {
    using first = new ModelIsm({ devid: 7n });
    using second = new ModelIsm({ devid: 8n, sharing: first });
    await using one = await VirtioIsm.open(first.transport, options);
    await using two = await VirtioIsm.open(second.transport, options);
    await use(one, two, first, second);
  }
  assertEquals(mappingCount(), before);
}

/** A channel between them. */
export async function withChannel(
  use: (ends: Ends) => Promise<void> | void,
  options: IsmChannelCreateOptions & {
    connect?: IsmChannelOptions;
    driver?: VirtioIsmOptions;
    chunks?: number[];
  } = {},
): Promise<void> {
  const { connect, driver, chunks, ...create } = options;
  await withDevices(async (one, two, first, second) => {
    if (chunks !== undefined) first.chunksFor = (count) => chunks.slice(0, count);
    const a = await IsmChannel.create(one, { capacityBytes: 4096, ...create });
    const b = await IsmChannel.connect(two, a.token, connect);
    await use({ a, b, one, two, first, second });
  }, driver);
}

/** Bytes to recognize. */
export function pattern(length: number, seed: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (seed + i * 7 + (i >> 8)) & 0xff);
}
