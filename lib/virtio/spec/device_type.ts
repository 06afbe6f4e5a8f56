/**
 * What a driver and a device both know of a device type.
 *
 * @module
 */
import type { Fields } from "../../wire/mod.ts";

/** One device type: its numbers and names. */
export interface DeviceType {
  /** Virtio device id. */
  readonly id: number;
  /** In words, such as `network device`. Default: the standard's, by the id. */
  readonly name?: string;
  /** What names of its own features begin with: `VIRTIO_NET_F_`. */
  readonly prefix: string;
  /** Bit numbers of its own features, by the rest of the name. */
  readonly featureBits: Readonly<Record<string, number>>;
  /** Its configuration, with every field that it can have. */
  readonly config: Fields;
  /** Bytes of `config` that a legacy device can have. Absent: the type has no legacy interface. */
  readonly legacyConfigBytes?: number;
  /** Fields that are arrays, and stand in `config` element by element. */
  readonly arrays?: readonly (readonly [offset: number, sizeBytes: number])[];
  /** Bytes of `config` that are there with a feature only, or with one of several. */
  readonly optionalConfig?: readonly (readonly [feature: string, from: number, end: number])[];
}
