/**
 * A device type that does not exist, all of it: one queue, of which each chain's device-readable bytes come back in its device-writable ones.
 *
 * @module
 */
import * as v from "valibot";
import type { DeviceKind, ModelPlace } from "../../../lib/emulation/device_kind.ts";
import type { DeviceCore, DeviceModel, ModelParts } from "../../../lib/emulation/device_model.ts";
import { whole } from "../../../lib/emulation/topology_fields.ts";
import { type LieFamily, Occasions, ONCE, parseLie } from "../../../lib/emulation/virtio/lies/lie.ts";
import { Chain } from "../../../lib/emulation/virtio/queue/chain.ts";
import { copyChain } from "../../../lib/emulation/virtio/queue/chain_copy.ts";
import type { DeviceType } from "../../../lib/virtio/spec/device_type.ts";
import { Struct, u32 } from "../../../lib/wire/mod.ts";

const CONFIG = new Struct("virtio_echo_config", 4, { most_bytes: u32(0) });
const LOUD = 3;

/** For both sides. */
export const ECHO_DEVICE: DeviceType = {
  id: 60,
  name: "echo device",
  prefix: "VIRTIO_ECHO_F_",
  featureBits: { LOUD },
  config: CONFIG.fields,
};

interface EchoFields {
  /** Longest echo. Default 256. */
  readonly mostBytes?: number;
}

const LIES: LieFamily<"echo-short"> = {
  who: "an echo device",
  prefix: "echo-",
  /** The used length is one byte short. */
  names: ["echo-short"],
  numbers: () => ONCE,
};

class EchoModel implements DeviceModel {
  readonly deviceId = ECHO_DEVICE.id;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly configSizeBytes: number = CONFIG.sizeBytes;
  readonly classCode = 0x00ff00;
  readonly parts: ModelParts = {};
  readonly #mostBytes: number;
  readonly #chain: Chain;
  readonly #lie: Occasions<"echo-short"> | undefined;
  #core: DeviceCore | null = null;

  constructor({ mostBytes = 256 }: EchoFields, { queueSize = 64, featuresOff = 0n, lie }: ModelPlace) {
    this.features = 1n << BigInt(LOUD) & ~featuresOff;
    this.queueSizes = [queueSize];
    this.#mostBytes = mostBytes;
    this.#chain = new Chain(queueSize);
    this.#lie = lie === undefined ? undefined : new Occasions(parseLie(lie, LIES));
  }

  connect(core: DeviceCore): void {
    this.#core = core;
  }

  config(): Uint8Array {
    return CONFIG.encode({ most_bytes: this.#mostBytes });
  }

  poll(budget: number): number {
    const queue = this.#core?.queue(0);
    const chain = this.#chain;
    let moved = 0;
    for (let id; queue !== undefined && moved < budget && (id = queue.pop(chain)) >= 0; moved++) {
      const count = Math.min(chain.readableBytes, chain.writableBytes, this.#mostBytes);
      copyChain(chain, 0, chain, 0, count);
      queue.pushUsed(id, this.#lie?.take() ? count - 1 : count);
    }
    if (moved > 0) queue!.publish();
    return moved;
  }

  arm(): boolean {
    return this.#core?.queue(0)?.arm() ?? false;
  }
}

/** For the device's side; makes the type known by name, where models are made with it. */
export const ECHO_KIND: DeviceKind<EchoFields> = {
  name: "virtio-echo",
  type: ECHO_DEVICE,
  fields: { mostBytes: v.optional(whole(1, 4096)) },
  admin: "modern",
  lies: LIES,
  devices: () => ({ model: (own, place) => new EchoModel(own, place) }),
};
