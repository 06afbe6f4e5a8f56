/**
 * `ringside tvq FUNCTION config DEVICE`
 *
 * @module
 */
import { type ManagedDevice, ManagementCommandError } from "../../drivers/management/virtio_management.ts";
import type { Host } from "../../lib/host/mod.ts";
import type { VirtioTransport } from "../../lib/virtio/mod.ts";
import { configFieldLack, deviceType } from "../../lib/virtio/spec/device_types.ts";
import { FIELD_BYTES } from "../../lib/wire/mod.ts";
import { hex, print, printJson, printTable } from "../output.ts";
import type { Of } from "../parser.ts";
import { deviceReport, deviceText, lookAt } from "./looking.ts";

/** A field of a config space. */
export interface ConfigField {
  /** Bytes from its beginning. */
  readonly offset: number;
  /** Bytes. */
  readonly width: number;
  readonly name: string;
  /** A number, or the bytes of an array: `52:54:00:12:34:56`. */
  readonly value: bigint | string;
}

/** Reads a device's config space, field by field. */
export async function tvqConfig(host: Host, options: Of<"tvq config">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { device, owner, transport } = await lookAt(host, options, stack);
  const fields = await readFields(device, transport);
  const generation = await device.generation();
  if (options.json) return printJson({ function: owner, ...deviceReport(device), generation, fields });
  print(`${deviceText(device)}, configuration of generation ${generation}`);
  if (fields.length > 0) printFields(fields);
}

/** As a table. */
export function printFields(fields: readonly ConfigField[]): void {
  printTable(
    ["OFFSET", "WIDTH", "FIELD", "VALUE"],
    fields.map(({ offset, width, name, value }) => [
      `${offset}`,
      `${width}`,
      name,
      typeof value === "string" ? value : `${value} (0x${value.toString(16)})`,
    ]),
    { drop: [1], shrink: [3] },
  );
}

/**
 * The fields that a device with these features has, each by a command, up to the end of the config space: no command says where that is, and a device may
 * have less.
 */
export async function readFields(
  device: ManagedDevice,
  transport: Pick<VirtioTransport, "readDeviceFeatures">,
): Promise<ConfigField[]> {
  const offered = transport.readDeviceFeatures();
  const { config = {}, arrays = [] } = deviceType(device.type) ?? {};
  const fields: ConfigField[] = [];
  for (const [name, { offset, type }] of Object.entries(config)) {
    if (arrays.some(([first, size]) => offset > first && offset < first + size)) continue;
    if (configFieldLack(device.type, offered, offset) !== undefined) continue;
    const arrayBytes = arrays.find(([first]) => first === offset)?.[1];
    const width = arrayBytes ?? FIELD_BYTES[type];
    const bytes = await readField(device, offset, width);
    if (bytes === undefined) break;
    fields.push(
      arrayBytes === undefined
        ? { offset, width, name, value: numberOf(bytes) }
        // Its elements are numbered: `mac0`.
        : { offset, width, name: name.replace(/0$/, ""), value: bytesText(bytes) },
    );
  }
  return fields;
}

async function readField(
  device: ManagedDevice,
  offset: number,
  width: number,
): Promise<Uint8Array | undefined> {
  try {
    return await device.readConfig(offset, width);
  } catch (error) {
    // N-4.10: behind its end.
    if (error instanceof ManagementCommandError && ["CONFIG", "ERR"].includes(error.ackName)) {
      return undefined;
    }
    throw error;
  }
}

function numberOf(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => value << 8n | BigInt(byte), 0n);
}

function bytesText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => hex(byte, 2)).join(":");
}
