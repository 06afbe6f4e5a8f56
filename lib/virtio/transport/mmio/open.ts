/**
 * Which form of virtio-mmio a register window has.
 *
 * @module
 */
import { requireType, typedCall } from "../../../errors/doors.ts";
import { NotFoundError, UnsupportedError, UsageError } from "../../../errors/mod.ts";
import { shown } from "../../../errors/shown.ts";
import { Registers } from "../../../registers/registers.ts";
import { PROFILES } from "../../spec/features.ts";
import {
  MMIO_CFG,
  MMIO_CONFIG_OFFSET,
  MMIO_LEGACY_CFG,
  MMIO_MAGIC,
  MMIO_MSI_V2_CFG,
  MMIO_V3_CFG,
  MMIO_VERSION,
  type MmioForm,
} from "../../spec/mmio.ts";
import { MmioLegacyTransport } from "./legacy.ts";
import { MmioModernTransport } from "./modern.ts";
import { type MmioOptions, tracedWindow } from "./transport.ts";
import type { MmioWindow } from "./window.ts";
import type { Profile, VirtioTransport } from "../transport.ts";

/** What each profile takes: by Version alone in the standard, and one Version in each draft (A-7.1, A-7.2, N-7.8). */
const FORMS: Readonly<Partial<Record<Profile, readonly MmioForm[]>>> = {
  "spec": ["modern", "legacy"],
  "mmio-v3": ["v3"],
  "mmio-msi-v2": ["msi-v2"],
};
const TABLES = { "modern": MMIO_CFG, "v3": MMIO_V3_CFG, "msi-v2": MMIO_MSI_V2_CFG } as const;

/**
 * Reaches the virtio device behind a register window: one of `platformWindow`, or of a caller's own mapping.
 * @param window the transport's from now on, which closes it; still the caller's when this throws
 * @throws UnsupportedError (no virtio-mmio device, or of a Version that is not the profile's), NotFoundError (a placeholder: DeviceID 0),
 * UsageError (a profile that is not MMIO's, a window that is too small), ClosedError, and what the window throws
 */
export function openMmio(window: MmioWindow, options: MmioOptions = {}): VirtioTransport {
  return typedCall("openMmio", [window, options], () => {
    requireWindow(window, "openMmio");
    requireType(options, "object", "openMmio: options");
    // A getter may give something else the next time.
    const { profile = "spec", assumeAccessPlatform, trace, msiEnableByStatus, msiStateBits } = options;
    const chosen = {
      profile,
      ...(assumeAccessPlatform === undefined ? {} : { assumeAccessPlatform }),
      ...(trace === undefined ? {} : { trace }),
      ...(msiEnableByStatus === undefined ? {} : { msiEnableByStatus }),
      ...(msiStateBits === undefined ? {} : { msiStateBits }),
    } as const satisfies MmioOptions;
    const { deviceId, form } = identifyMmio(window, chosen);
    if (form === "legacy") {
      return new MmioLegacyTransport({ window, table: MMIO_LEGACY_CFG, form, deviceId, options: chosen });
    }
    return new MmioModernTransport({ window, table: TABLES[form], form, deviceId, options: chosen });
  });
}

/** That it is a window: a caller may have made it. @param what function that was given it @throws UsageError */
export function requireWindow(window: MmioWindow, what: string): void {
  const members = ["name", "dma", "closed", "space", "sizeBytes", "doorbell", "interrupts", "close"];
  requireType(window, "object", `${what}: window`, ...members);
  requireType(window.dma, "object", `${what}: window.dma`, "mapper", "allocate");
  requireType(window.space, "object", `${what}: window.space`, "read", "write");
  const line = ["available", "enable", "disable", "rearm"];
  requireType(window.interrupts, "object", `${what}: window.interrupts`, ...line);
  const { sizeBytes } = window;
  if (Number.isSafeInteger(sizeBytes) && sizeBytes >= 0) return;
  throw new UsageError(`${what}: window.sizeBytes: ${shown(sizeBytes)} is no number of bytes`);
}

/** MagicValue, then Version, then DeviceID, as §4.2.3.1.1 has it. @throws as `openMmio` */
export function identifyMmio(
  window: MmioWindow,
  options: MmioOptions,
): { readonly deviceId: number; readonly form: MmioForm } {
  const { name, sizeBytes } = window;
  const { profile = "spec", msiStateBits = "spec" } = options;
  if (msiStateBits !== "spec" && msiStateBits !== "linux") {
    throw new UsageError(`${name}: msiStateBits: ${shown(msiStateBits)} is neither "spec" nor "linux"`);
  }
  // By value: what a caller without types gives may be a key of any object.
  const forms = PROFILES.includes(profile) ? FORMS[profile] : undefined;
  if (forms === undefined) {
    throw new UsageError(
      PROFILES.includes(profile)
        ? `${name}: profile "${profile}" is not virtio-mmio's`
        : `${name}: there is no such profile`,
      { hint: `profiles are ${Object.keys(FORMS).join(", ")}` },
    );
  }
  if (sizeBytes < MMIO_CONFIG_OFFSET) {
    throw new UsageError(
      `${name}: a window of ${sizeBytes} bytes; the registers have ${MMIO_CONFIG_OFFSET}`,
    );
  }
  const registers = new Registers(MMIO_CFG, tracedWindow(window, MMIO_CFG, options));
  const magic = registers.read("magic_value");
  if (magic !== MMIO_MAGIC) {
    throw new UnsupportedError(
      `${name} is no virtio-mmio device: MagicValue reads 0x${magic.toString(16)}, not 0x${
        MMIO_MAGIC.toString(16)
      }`,
    );
  }
  const version = registers.read("version");
  const form = forms.find((one) => MMIO_VERSION[one] === version);
  if (form === undefined) {
    const versions = forms.map((one) => MMIO_VERSION[one]).join(" and ");
    throw new UnsupportedError(
      `${name}: Version is ${version}; profile "${profile}" takes ${versions} (A-7.1)`,
      { hint: HINTS.get(version) ?? "versions 1, 2 and, of a draft, 3 are known" },
    );
  }
  const deviceId = registers.read("device_id");
  if (deviceId === 0) {
    throw new NotFoundError(`${name} is a placeholder: DeviceID is 0, and no device is behind it`);
  }
  return { deviceId, form };
}

const HINTS: ReadonlyMap<number, string> = new Map([
  [1, 'version 1 is the legacy interface: open it with profile "spec"'],
  [2, 'version 2 is the standard: open it with profile "spec", or "mmio-msi-v2" where it follows that draft'],
  [3, 'version 3 is a draft: open it with profile "mmio-v3"'],
]);
