/**
 * What a network VF tells a legacy driver of itself, read as such a driver reads it: register by register.
 *
 * @module
 */
import { requireType } from "../../../lib/errors/doors.ts";
import type { LegacyRegisterAccess } from "../../../lib/virtio/admin/legacy_access.ts";
import type { AsyncLegacyRegisters } from "../../../lib/virtio/admin/legacy_registers.ts";
import { LEGACY_CFG, NET_FEATURE } from "../../../lib/virtio/mod.ts";
import { formatMac, MAC_BYTES, NET_CONFIG } from "../../../lib/virtio/spec/net.ts";

/** Who it is. */
export interface LegacyVfIdentity {
  /** Bits 0 to 31. */
  readonly features: bigint;
  /** `02:00:00:01:00:01`; undefined without MAC. */
  readonly mac: string | undefined;
  /** Bytes of an Ethernet payload; undefined without MTU. */
  readonly mtu: number | undefined;
  /** 1 without MQ. */
  readonly maxQueuePairs: number;
  /** Descriptors of each queue, up to the first that is not there. */
  readonly queueSizes: readonly number[];
}

/** Nothing but a size of 0 ends the queues, and the device is not to be trusted to have one. */
const QUEUES_LOOKED_FOR = 1024;

/** Reads it by `member.legacy` or `member.legacyAsync`; changes `queue_select` alone. Some 20 commands, one after the other. @throws as the commands */
export async function readLegacyVfIdentity(
  registers: LegacyRegisterAccess | AsyncLegacyRegisters,
): Promise<LegacyVfIdentity> {
  const needed = ["readCommon", "writeCommon", "readDevice"];
  requireType(registers, "object", "readLegacyVfIdentity: registers", ...needed);
  const { device_features, queue_select, queue_size } = LEGACY_CFG;
  const features = BigInt(await registers.readCommon(device_features.offset, device_features.width));
  const has = (feature: bigint) => (features & feature) !== 0n;
  const { mac0, max_virtqueue_pairs, mtu } = NET_CONFIG.fields;
  const mac = new Uint8Array(MAC_BYTES);
  if (has(NET_FEATURE.MAC)) {
    for (let i = 0; i < MAC_BYTES; i++) mac[i] = await registers.readDevice(mac0.offset + i, 1);
  }
  const pairs = has(NET_FEATURE.MQ) ? await registers.readDevice(max_virtqueue_pairs.offset, 2) : 1;
  const mtuBytes = has(NET_FEATURE.MTU) ? await registers.readDevice(mtu.offset, 2) : undefined;
  const queueSizes: number[] = [];
  for (let queue = 0; queue < QUEUES_LOOKED_FOR; queue++) {
    await registers.writeCommon(queue_select.offset, queue_select.width, queue);
    const size = await registers.readCommon(queue_size.offset, queue_size.width);
    if (size === 0) break;
    queueSizes.push(size);
  }
  return {
    features,
    mac: has(NET_FEATURE.MAC) ? formatMac(mac) : undefined,
    mtu: mtuBytes,
    maxQueuePairs: pairs,
    queueSizes,
  };
}
