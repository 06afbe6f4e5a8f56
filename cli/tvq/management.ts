/**
 * A management function as commands use it: opened, and asked for the devices that a command works on.
 *
 * A managed device ends with the reset of its management device, and VFIO resets a function when its user closes it. So there is none that an
 * earlier command left: each makes its own.
 *
 * @module
 */
import {
  type ManagedDevice,
  TVQ_PADDED_HEADER,
  TVQ_TIGHT_HEADER,
  VirtioManagement,
  type VirtioManagementOptions,
} from "../../drivers/management/virtio_management.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { type InterruptChoice, openTransport, type VirtioTransport } from "../../lib/virtio/mod.ts";
import { DRAFT_FEATURE_BIT } from "../../lib/virtio/spec/features.ts";
import { openOptions, transportOptions } from "../opening.ts";
import type { Of } from "../parser.ts";
import { parseAttributes, parseNumber } from "./attributes.ts";
import type { DeviceText } from "./device_text.ts";

/** Options of every command that may open a management function. */
export type OpeningManagement =
  & Pick<Of<"show">, "path" | "vfToken" | "unsafe" | "assumeAccessPlatform" | "profile" | "trace" | "tvq">
  & { readonly interrupts?: InterruptChoice };

/** An opened management function. */
export class Management {
  /** Its driver. */
  readonly driver: VirtioManagement;
  readonly #offered: bigint;
  readonly #options: OpeningManagement;

  /** Of a driver that the caller closes. */
  constructor(driver: VirtioManagement, options: OpeningManagement) {
    this.driver = driver;
    this.#offered = driver.transport.readDeviceFeatures();
    this.#options = options;
  }

  /** PCI address. */
  get name(): string {
    return this.driver.transport.name;
  }

  /** Features that CREATE asks for. */
  asked(device: DeviceText): bigint {
    return device.features(this.#offered);
  }

  /** Creates a device. It lives as long as the management function is open. */
  async create(device: DeviceText): Promise<ManagedDevice> {
    const { type, config } = device;
    return await this.driver.create({ type, config, features: this.asked(device) });
  }

  /** For the driver of a device; the caller closes it. */
  transport(device: ManagedDevice, { addressSpace }: Pick<DeviceText, "addressSpace">): VirtioTransport {
    const { trace } = transportOptions(device, this.#options);
    return this.driver.openTransport(device.id, { addressSpace, ...(trace && { trace }) });
  }
}

/** Opens a management function; `stack` closes it, which ends its devices. */
export async function openManagement(
  host: Host,
  options: OpeningManagement,
  stack: AsyncDisposableStack,
  address: string,
): Promise<Management> {
  const settings = settingsOf(options.tvq ?? "");
  const device = stack.use(host.open(address, openOptions(options)));
  const transport = stack.use(
    openTransport(device, { ...transportOptions(device, options), profile: "transport-vq" }),
  );
  const { interrupts = "auto" } = options;
  const driver = stack.use(
    await VirtioManagement.open(transport, { function: device, interrupts, ...settings }),
  );
  return new Management(driver, options);
}

const SETTINGS = ["layout", "header", "bit", "managed-bit", "id", "queue"] as const;
const HEADERS = { padded: TVQ_PADDED_HEADER, tight: TVQ_TIGHT_HEADER };

/** What `--tvq` says: that which no device tells, and no text of the draft settles. @throws UsageError */
function settingsOf(text: string): VirtioManagementOptions {
  const given = parseAttributes(text, SETTINGS, "--tvq");
  const number = (name: typeof SETTINGS[number], most: bigint) => {
    const value = given.get(name);
    return value === undefined ? undefined : Number(parseNumber(value, 0n, most, `--tvq ${name}`));
  };
  const oneOf = <T extends string>(name: typeof SETTINGS[number], known: readonly T[]): T | undefined => {
    const value = given.get(name);
    if (value === undefined || known.includes(value as T)) return value as T | undefined;
    throw new UsageError(`--tvq ${name}: ${JSON.stringify(value)}`, { hint: known.join(" or ") });
  };
  const { TRANSPT_VQ, TRANSPT_VQ_MDEV } = DRAFT_FEATURE_BIT;
  const header = oneOf("header", ["padded", "tight"]);
  return {
    layout: oneOf("layout", ["aligned", "packed"]),
    header: header && HEADERS[header],
    featureBits: {
      vq: number("bit", 63n) ?? TRANSPT_VQ,
      mdev: number("managed-bit", 63n) ?? TRANSPT_VQ_MDEV,
    },
    deviceId: number("id", 0xffffn),
    queue: number("queue", 0xffffn),
  };
}
