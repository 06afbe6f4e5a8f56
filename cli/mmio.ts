/**
 * `ringside mmio DEVICE show`
 *
 * @module
 */
import { UnsupportedError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { inspectMmio, type MmioRegister, platformWindow } from "../lib/virtio/mod.ts";
import { hex, print, printJson, printTable, remark } from "./output.ts";
import { openOptions, transportOptions } from "./opening.ts";
import type { Of } from "./parser.ts";

/** Reads and decodes every register of a virtio-mmio device. */
export function mmioShow(host: Host, options: Of<"mmio show">): void {
  const { address, bus } = host.describe(options.function);
  if (bus !== "platform") {
    throw new UnsupportedError(
      `${address} is a ${
        bus === "pci" ? "PCI function" : `${bus} device`
      }, which has no register window of virtio-mmio`,
      {
        hint: `ringside show ${address} decodes it`,
      },
    );
  }
  using device = host.open(address, openOptions(options));
  const window = platformWindow(device);
  const facts = inspectMmio(window, transportOptions(device, options));
  window.close();
  if (options.json) {
    const { device: name, ...rest } = facts;
    return printJson({ function: name, ...rest });
  }
  const { form, version, deviceId, deviceType, profile, lack, registers, written } = facts;
  print(
    `${address}: ${deviceType} (${deviceId}), virtio-mmio version ${version}, profile ${profile}` +
      (form === null ? "" : `, form ${form}`),
  );
  printTable(
    ["OFFSET", "WIDTH", "REGISTER", "OF", "VALUE", "MEANING"],
    registers.map(row),
    { drop: [1], shrink: [5] },
  );
  if (lack !== undefined) remark(`it cannot be driven: ${lack}`);
  if (written.length > 0) remark(`written, and put back to 0: ${written.join(", ")}`);
}

function row({ offset, width, name, select, value, meaning }: MmioRegister): string[] {
  return [
    `0x${hex(offset, 3)}`,
    `${width}`,
    name,
    select ?? "-",
    value === null ? "-" : `0x${value.toString(16).padStart(2 * width, "0")}`,
    meaning,
  ];
}
