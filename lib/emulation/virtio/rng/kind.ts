/**
 * virtio-rng in an emulated host.
 *
 * @module
 */
import { ENTROPY_DEVICE } from "../../../virtio/spec/entropy.ts";
import type { DeviceKind } from "../../device_kind.ts";
import { RngModel } from "./model.ts";

/** Its record. */
export const RNG_KIND: DeviceKind = {
  name: "virtio-rng",
  type: ENTROPY_DEVICE,
  fields: {},
  admin: "modern",
  managed: () => ({}),
  devices: () => ({ model: (_own, place) => new RngModel(place) }),
};
