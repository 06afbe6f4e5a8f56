/**
 * Commands for a managed device as a whole: features, status, configuration, the MSI entry of the configuration (TVQ classes 3 to 7).
 *
 * @module
 */
import { STATUS } from "../../../virtio/spec/status.ts";
import { TVQ_COMMAND, TVQ_MSI_STATE } from "../../../virtio/spec/transport_vq.ts";
import { stepStatus } from "../core/status.ts";
import { DONE, on, Refusal, type TvqHandler } from "./command.ts";
import type { ManagedDevice } from "./managed_device.ts";

/** Widths at which a field of the configuration is written at once, where it is aligned; else byte by byte. */
const FIELD_WIDTHS: readonly number[] = [1, 2, 4, 8];

/** See the module. */
export const DEVICE_COMMANDS: readonly TvqHandler<ManagedDevice>[] = [
  on(TVQ_COMMAND.FEAT_DEVICE_GET, ({ core }) => ({ features: core.offered })),
  on(TVQ_COMMAND.FEAT_DRIVER_GET, ({ core }) => ({ features: core.driverFeatures })),
  on(TVQ_COMMAND.FEAT_DRIVER_SET, ({ core }, { values: { features } }) => {
    if ((core.status & STATUS.featuresOk) !== 0) {
      return new Refusal("STATE", "A-4.36", "features were set after FEATURES_OK");
    }
    core.acceptFeatures(0, Number(features & 0xffff_ffffn));
    core.acceptFeatures(1, Number(features >> 32n));
    return DONE;
  }),
  on(TVQ_COMMAND.STATUS_GET, ({ core }) => ({ status: core.status })),
  // N-4.7: a reset is done when the command is.
  on(TVQ_COMMAND.STATUS_SET, ({ core }, { values: { status } }) => {
    const [problem] = status === 0 ? [] : stepStatus(core.status, status).problems;
    if (problem !== undefined) return new Refusal("VALUE", "1.1", problem);
    core.writeStatus(status);
    return DONE;
  }),
  on(TVQ_COMMAND.GENERATION_GET, ({ core }) => ({ generation: core.generation })),
  on(TVQ_COMMAND.CONFIG_GET, (device, { values: { offset, size }, room }) => {
    const outside = outsideConfig(device, offset, size);
    if (outside !== undefined) return outside;
    if (room < size) {
      return new Refusal("IN_DATA", "A-4.35", `room for ${room} of ${size} bytes of config space`);
    }
    const bytes = new Uint8Array(size);
    device.core.readConfig(offset, bytes);
    return bytes;
  }),
  on(TVQ_COMMAND.CONFIG_SET, (device, { values: { offset, size }, tail }) => {
    const { core } = device;
    const outside = outsideConfig(device, offset, size);
    if (outside !== undefined) return outside;
    if (tail.length < size) {
      return new Refusal("OUT_DATA", "A-4.35", `${tail.length} of ${size} bytes for config space`);
    }
    if ((core.status & STATUS.featuresOk) === 0 && !core.model.configWritableAlways) {
      return new Refusal("STATE", "1.1", "device configuration was written before FEATURES_OK");
    }
    const step = FIELD_WIDTHS.includes(size) && offset % size === 0 ? size : 1;
    for (let at = 0; at < size; at += step) core.writeConfig(offset + at, tail.subarray(at, at + step));
    return DONE;
  }),
  on(TVQ_COMMAND.MSI_CONFIG_SET, ({ configMsi }, { values: { address, data } }) => {
    if (address % 4n !== 0n) return misaligned(address);
    configMsi.message = { address, data };
    return DONE;
  }),
  on(TVQ_COMMAND.MSI_CONFIG_ENABLE, ({ configMsi }, { values: { enable } }) => {
    if (enable > 1) return neither("enable", enable);
    configMsi.enabled = enable === TVQ_MSI_STATE.CFG_ENABLE;
    return DONE;
  }),
  on(TVQ_COMMAND.MSI_CONFIG_MASK, ({ configMsi }, { values: { mask } }) => {
    if (mask > 1) return neither("mask", mask);
    configMsi.masked = mask === TVQ_MSI_STATE.CFG_MASK;
    return DONE;
  }),
];

/** N-4.10. */
function outsideConfig({ core }: ManagedDevice, offset: number, size: number): Refusal | undefined {
  const { configSizeBytes } = core.model;
  if (offset + size <= configSizeBytes) return undefined;
  return new Refusal(
    "CONFIG",
    "N-4.10",
    `${size} bytes at ${offset} of a config space of ${configSizeBytes} bytes`,
  );
}

/** A message whose four bytes could not be written at once. */
export function misaligned(address: bigint): Refusal {
  return new Refusal("VALUE", "4.3", `MSI address 0x${address.toString(16)} is no multiple of 4`);
}

/** A value of a field that knows 0 and 1. */
export function neither(field: string, value: number): Refusal {
  return new Refusal("VALUE", "4.3", `${field} ${value} is neither 0 nor 1`);
}
