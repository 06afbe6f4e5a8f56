/**
 * The header of configuration space as `lspci -vv` prints it.
 *
 * @module
 */

import type { PciAddress } from "../address.ts";
import type { BridgeWindow, CardBusHeader, ConfigSpace, SubsystemId } from "../config_space.ts";
import { BRIDGE, CARD_BUS, DEVICE_SELECT_TIMINGS, HEADER } from "../header.ts";
import { lookup, lookupClass, lookupSubsystem, type PciNames } from "../ids.ts";
import { formatBaseAddress } from "./base_address.ts";
import type { HostFacts } from "./options.ts";
import { hex } from "../hex.ts";
import { fill, sizeText, when } from "./text.ts";

/** The line that names a function: address, class, vendor, device, revision and programming interface. */
export function formatTitle(config: ConfigSpace, names: PciNames, address?: PciAddress): string {
  const where = address === undefined ? "" : `${address.domain === 0 ? address.toShortString() : address} `;
  const revision = config.revisionId === 0 ? "" : ` (rev ${hex(config.revisionId, 2)})`;
  const { programmingInterface } = config.classCode;
  const interfaceName = lookupClass(names, config.classCode).programmingInterface;
  const progIf = programmingInterface === 0 && interfaceName === undefined
    ? ""
    : ` (prog-if ${hex(programmingInterface, 2)}${interfaceName === undefined ? "" : ` [${interfaceName}]`})`;
  return `${where}${classText(config, names)}: ${
    deviceText(names, config.vendorId, config.deviceId)
  }${revision}${progIf}`;
}

function classText(config: ConfigSpace, names: PciNames): string {
  const { name, isBaseOnly } = lookupClass(names, config.classCode);
  const number = hex(config.classCode.value >>> 8, 4);
  if (name === undefined) return `Class ${number}`;
  return isBaseOnly ? `${name} [${number}]` : name;
}

function deviceText(names: PciNames, vendorId: number, deviceId: number): string {
  const { vendor, device } = lookup(names, vendorId, deviceId);
  return namedOrNumbers(vendor, device, vendorId, deviceId);
}

function namedOrNumbers(
  vendor: string | undefined,
  device: string | undefined,
  vendorId: number,
  deviceId: number,
) {
  if (vendor === undefined) return `Device ${hex(vendorId, 4)}:${hex(deviceId, 4)}`;
  return `${vendor} ${device ?? `Device ${hex(deviceId, 4)}`}`;
}

/** Text of a subsystem: names where known, numbers otherwise. */
export function subsystemText(
  config: ConfigSpace,
  names: PciNames,
  vendorId: number,
  deviceId: number,
): string {
  const { vendor, device } = lookupSubsystem(names, config.vendorId, config.deviceId, { vendorId, deviceId });
  return namedOrNumbers(vendor, device, vendorId, deviceId);
}

/** What the header type and the class say against each other. */
export function formatHeaderType({ headerType, classCode }: ConfigSpace): string[] {
  if (headerType > 2) return [`\t!!! Unknown header type ${hex(headerType, 2)}`];
  const { base, sub } = classCode;
  // A bridge of another kind (to the host, to ISA) may well have a header of type 0.
  const agree = headerType === 0 ? base !== BRIDGE_CLASS || sub !== PCI_TO_PCI : base === BRIDGE_CLASS;
  return agree
    ? []
    : [`\t!!! Invalid class ${hex(classCode.value >>> 8, 4)} for header type ${hex(headerType, 2)}`];
}

const BRIDGE_CLASS = 0x06;
const PCI_TO_PCI = 0x04;

/** Lines from `Subsystem` down to `Interrupt` and what the host adds there. A bridge's subsystem is in a capability. */
export function formatHeaderRegisters(
  config: ConfigSpace,
  names: PciNames,
  host: HostFacts,
  bridgeSubsystem?: SubsystemId,
): string[] {
  const lines: string[] = [];
  const subsystem = config.subsystem ?? bridgeSubsystem;
  if (subsystem !== undefined && subsystem.vendorId !== 0 && subsystem.vendorId !== 0xffff) {
    lines.push(`\tSubsystem: ${subsystemText(config, names, subsystem.vendorId, subsystem.deviceId)}`);
  }
  lines.push(...formatHeaderType(config));
  const control =
    "I/O± Mem± BusMaster± SpecCycle± MemWINV± VGASnoop± ParErr± Stepping± SERR± FastB2B± DisINTx±";
  lines.push(`\tControl: ${fill(control, config, HEADER.command, config.command)}`);
  const { status } = config, timing = DEVICE_SELECT_TIMINGS[status.deviceSelectTiming];
  const flags =
    `Cap± 66MHz± UDF± FastB2B± ParErr± DEVSEL=${timing} >TAbort± <TAbort± <MAbort± >SERR± <PERR± INTx±`;
  lines.push(`\tStatus: ${fill(flags, config, HEADER.status, status)}`);
  if (config.command.busMaster) lines.push(`\tLatency: ${latencyText(config)}`);
  const irq = host.irq ?? config.interruptLine;
  if (config.interruptPin !== undefined || irq !== 0) {
    lines.push(`\tInterrupt: pin ${config.interruptPin ?? "?"} routed to IRQ ${irq}`);
  }
  if (config.bist & 0x80) {
    lines.push(config.bist & 0x40 ? "\tBIST is running" : `\tBIST result: ${hex(config.bist & 0xf, 2)}`);
  }
  if (host.numaNode !== undefined) lines.push(`\tNUMA node: ${host.numaNode}`);
  if (host.iommuGroup !== undefined) lines.push(`\tIOMMU group: ${host.iommuGroup}`);
  return lines;
}

function latencyText(config: ConfigSpace): string {
  let text = `${config.latencyTimer}`;
  if (config.headerType === 0) {
    // Both count quarters of a microsecond; PCIe functions have 0 in both.
    const minimum = config.register(HEADER.minGrant) * 250,
      maximum = config.register(HEADER.maxLatency) * 250;
    const parts = [];
    if (minimum !== 0) parts.push(`${minimum}ns min`);
    if (maximum !== 0) parts.push(`${maximum}ns max`);
    if (parts.length > 0) text += ` (${parts.join(", ")})`;
  }
  if (config.cacheLineSizeBytes !== 0) text += `, Cache Line Size: ${config.cacheLineSizeBytes} bytes`;
  return text;
}

/** Lines of the BARs, the expansion ROM, and what a bridge forwards. */
export function formatRegions(
  config: ConfigSpace,
  sizes: readonly (number | undefined)[],
  romBytes: number | undefined,
): string[] {
  const command = config.command;
  const bars = config.bars(sizes).map((bar) =>
    `\t${formatBaseAddress(bar, { enabled: bar.space === "io" ? command.ioSpace : command.memorySpace })}`
  );
  return [...bars, ...bridgeLines(config), ...romLines(config, romBytes), ...bridgeControlLines(config)];
}

function romLines(config: ConfigSpace, romBytes: number | undefined): string[] {
  const rom = config.expansionRom;
  if (rom === undefined && romBytes === undefined) return [];
  const address = rom === undefined || rom.address === 0 ? "<unassigned>" : hex(rom.address, 8);
  const disabled = rom?.enabled ? (config.command.memorySpace ? "" : " [disabled by cmd]") : " [disabled]";
  return [
    `\tExpansion ROM at ${address}${disabled}${
      romBytes === undefined ? "" : ` [size=${sizeText(romBytes)}]`
    }`,
  ];
}

function bridgeLines(config: ConfigSpace): string[] {
  const cardBus = config.cardBus;
  if (cardBus !== undefined) return cardBusLines(config, cardBus);
  const bridge = config.bridge;
  if (bridge === undefined) return [];
  const timing = DEVICE_SELECT_TIMINGS[bridge.secondaryStatus.deviceSelectTiming];
  const flags = `66MHz± FastB2B± ParErr± DEVSEL=${timing} >TAbort± <TAbort± <MAbort± <SERR± <PERR±`;
  return [
    busLine(bridge.primaryBus, bridge.secondaryBus, bridge.subordinateBus, bridge.secondaryLatencyTimer),
    windowLine("I/O", bridge.io),
    windowLine("Memory", bridge.memory),
    windowLine("Prefetchable memory", bridge.prefetchable),
    `\tSecondary status: ${fill(flags, bridge, BRIDGE.secondaryStatus, bridge.secondaryStatus)}`,
  ];
}

function cardBusLines(config: ConfigSpace, header: CardBusHeader): string[] {
  const { primaryBus, cardBus: secondary, subordinateBus, latencyTimer, legacyBase } = header;
  const { memorySpace, ioSpace } = config.command;
  const range = ({ base, limit }: BridgeWindow): string => `${hex(base, 8)}-${hex(limit, 8)}`;
  const disabled = (enabled: boolean): string => when(!enabled, " [disabled]");
  const flags = "Parity± SERR± ISA± VGA± MAbort± >Reset± 16bInt± PostWrite±";
  return [
    busLine(primaryBus, secondary, subordinateBus, latencyTimer),
    ...header.memoryWindows.map((window, i) =>
      `\tMemory window ${i}: ${range(window)}${disabled(memorySpace)}${
        when(window.prefetchable, " (prefetchable)")
      }`
    ),
    ...header.ioWindows.map((window, i) => `\tI/O window ${i}: ${range(window)}${disabled(ioSpace)}`),
    ...(header.secondaryStatus.receivedSystemError ? ["\tSecondary status: SERR"] : []),
    `\tBridgeCtl: ${fill(flags, header, CARD_BUS.control, header.control)}`,
    ...(legacyBase ? [`\t16-bit legacy interface ports at ${hex(legacyBase, 4)}`] : []),
  ];
}

function busLine(primary: number, secondary: number, subordinate: number, latency: number): string {
  return `\tBus: primary=${hex(primary, 2)}, secondary=${hex(secondary, 2)}, ` +
    `subordinate=${hex(subordinate, 2)}, sec-latency=${latency}`;
}

function windowLine(what: string, window: BridgeWindow): string {
  if (window.badTypes !== undefined) {
    const kind = what === "I/O" ? what : what.toLowerCase();
    return `\t!!! Unknown ${kind} range types ${window.badTypes.map((one) => hex(one)).join("/")}`;
  }
  const digits = window.addressBits / 4;
  const state = window.base > window.limit
    ? "[disabled]"
    : `[size=${sizeText(window.limit - window.base + 1n)}]`;
  return `\t${what} behind bridge: ${hex(window.base, digits)}-${hex(window.limit, digits)} ${state} ` +
    `[${window.addressBits}-bit]`;
}

function bridgeControlLines(config: ConfigSpace): string[] {
  const { bridge } = config;
  if (bridge === undefined) return [];
  const flags = "Parity± SERR± NoISA± VGA± VGA16± MAbort± >Reset± FastB2B±\n" +
    "\t\tPriDiscTmr± SecDiscTmr± DiscTmrStat± DiscTmrSERREn±";
  return `\tBridgeCtl: ${fill(flags, bridge, BRIDGE.control, bridge.control)}`.split("\n");
}
