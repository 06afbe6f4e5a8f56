/**
 * Extended capabilities as `lspci -vv` prints them.
 *
 * @module
 */

import { ROOT_ERROR_REGISTERS } from "../capability/advanced_error_reporting.ts";
import type { CapabilityOf } from "../capability/all.ts";
import { L1_SUBSTATES as L1 } from "../capability/l1_substates.ts";
import { VIRTUAL_CHANNEL as VC, VIRTUAL_CHANNEL_RESOURCE } from "../capability/virtual_channel.ts";
import { formatBaseAddress } from "./base_address.ts";
import { declaredLines } from "./declared.ts";
import type { CapabilityFormats } from "./options.ts";
import { hex } from "../hex.ts";
import { flag, registerLines, when } from "./text.ts";

const L1_FLAGS = "PCI-PM_L1.2± PCI-PM_L1.1± ASPM_L1.2± ASPM_L1.1±";
const PORT_ARBITRATIONS = ["Fixed", "WRR32", "WRR64", "WRR128"];
const CHANNEL_ARBITRATIONS = ["Fixed", "WRR32", "WRR64", "WRR128", "TWRR128", "WRR256"];
const BAR_SIZE_UNITS = ["MB", "GB", "TB", "PB", "EB"];
const STEERING_TABLES = [
  "No steering table available",
  "Steering table in TPH capability structure",
  "Steering table in MSI-X table",
];

/** What the declarations of the extended list do not say. */
export const EXTENDED_FORMATS: CapabilityFormats = {
  "advanced-error-reporting": (cap, { capabilities }) => {
    // The root registers only where they mean something.
    const isRoot = capabilities.some((one) => one.kind === "express" && one.root !== undefined);
    const root = isRoot && cap.root !== undefined ? registerLines(ROOT_ERROR_REGISTERS, cap.root) : [];
    const header = cap.headerLog.map((dword) => hex(dword, 8)).join(" ");
    return [...declaredLines(cap), `\t\tHeaderLog: ${header}`, ...root];
  },
  "virtual-channel": (cap) => {
    const { referenceClock, arbitrationEntrySize } = cap.capabilities1;
    const clock = referenceClock === 0 ? "100ns" : referenceClock;
    return [
      cap.name,
      ...registerLines(VC.registers, cap, {
        capabilities1: `Caps:\tLPEVC={lowPriorityExtendedVcCount} RefClk=${clock} ` +
          `PATEntryBits=${1 << arbitrationEntrySize}`,
        capabilities2: "Arb:\tFixed± WRR32± WRR64± WRR128±",
        control: `Ctrl:\tArbSelect=${arbitration(PORT_ARBITRATIONS, cap.control)}`,
        status: "Status:\tInProgress±",
      }),
      ...cap.channels.flatMap(channelLines),
    ];
  },
  "sr-iov": (cap, { options }) => [
    ...declaredLines(cap),
    ...cap.vfBars.map((vfBar) => {
      const sized = { ...vfBar, sizeBytes: options.vfBarSizes?.[vfBar.index] ?? 0 };
      // `lspci` writes the address of a VF BAR in full, unlike that of a BAR.
      const addressDigits = vfBar.addressBits === 64 ? 16 : 8;
      return `\t\t${formatBaseAddress(sized, { enabled: true, addressDigits })}`;
    }),
    `\t\tVF Migration: offset: ${
      hex(cap.vfMigrationStateArray.offset, 8)
    }, BIR: ${cap.vfMigrationStateArray.bar}`,
  ],
  "resizable-bar": (cap) => [
    ...declaredLines(cap),
    ...cap.bars.map(({ bar, sizeBytes, supportedBytes }) => {
      const supported = supportedBytes.map(barSizeText).join(" ");
      return `\t\tBAR ${bar}: current size: ${barSizeText(sizeBytes)}, supported: ${supported}`;
    }),
  ],
  "tph-requester": ({ name, capabilities: c }) => [
    name,
    ...(c.interruptVectorMode ? ["\t\tInterrupt vector mode supported"] : []),
    ...(c.deviceSpecificMode ? ["\t\tDevice specific mode supported"] : []),
    ...(c.extendedRequester ? ["\t\tExtended requester support"] : []),
    `\t\t${STEERING_TABLES[c.tableLocation] ?? "Reserved steering table location"}`,
  ],
  "secondary-express": (cap) => {
    const lanes = Array.from({ length: 32 }, (_, lane) => lane)
      .filter((lane) => (cap.laneErrorStatus >>> lane) & 1);
    const text = lanes.length === 0 ? "0" : `LaneErr at lane: ${lanes.join(" ")}`;
    return [...declaredLines(cap), `\t\tLaneErrStat: ${text}`];
  },
  "l1-substates": l1SubstateLines,
  "precision-time-measurement": ({ name, capabilities: c, control }) => [
    name,
    `\t\tPTMCap: Requester:${flag(c.requester)} Responder:${flag(c.responder)} Root:${flag(c.root)}`,
    `\t\tPTMClockGranularity: ${granularityText(c.granularity, "Unimplemented")}`,
    `\t\tPTMControl: Enabled:${flag(control.enable)} RootSelected:${flag(control.rootSelect)}`,
    `\t\tPTMEffectiveGranularity: ${granularityText(control.effectiveGranularity, "Unknown")}`,
  ],
};

function l1SubstateLines(cap: CapabilityOf<"l1-substates">): string[] {
  const { capabilities: c, control1 } = cap, hasL12 = c.pciPmL12 || c.aspmL12;
  const time = (value: number | undefined) => value === undefined ? "<error>" : `${value}us`;
  const ports = `PortCommonModeRestoreTime=${c.commonModeRestoreTimeUs}us ` +
    `PortTPowerOnTime=${time(cap.portPowerOnUs)}`;
  const threshold = when(c.aspmL12, ` LTR1.2_Threshold=${cap.ltrThresholdNs}ns`);
  return [
    cap.name,
    ...registerLines(L1.registers, cap, {
      capabilities: `L1SubCap: ${L1_FLAGS} L1_PM_Substates±${when(hasL12, `\n\t  ${ports}`)}`,
      control1: `L1SubCtl1: ${L1_FLAGS}${
        when(hasL12, `\n\t   T_CommonMode=${control1.commonModeRestoreTimeUs}us${threshold}`)
      }`,
      control2: `L1SubCtl2:${when(hasL12, ` T_PwrOn=${time(cap.powerOnUs)}`)}`,
    }),
  ];
}

function granularityText(value: number, zero: string): string {
  return value === 0 ? zero : value === 255 ? "Greater than 254ns" : `${value}ns`;
}

function barSizeText(bytes: number): string {
  const exponent = Math.log2(bytes) - 20;
  return `${2 ** (exponent % 10)}${BAR_SIZE_UNITS[Math.floor(exponent / 10)] ?? "?"}`;
}

function arbitration(names: readonly string[], { arbitrationSelect }: { arbitrationSelect: number }): string {
  return names[arbitrationSelect] ?? `??${arbitrationSelect}`;
}

function channelLines(
  channel: CapabilityOf<"virtual-channel">["channels"][number],
  index: number,
): string[] {
  const { capabilities, control } = channel;
  return registerLines(VIRTUAL_CHANNEL_RESOURCE, channel, {
    capabilities: `VC${index}:\tCaps:\tPATOffset={arbitrationTableOffset:2} ` +
      `MaxTimeSlots=${capabilities.maxTimeSlots + 1} RejSnoopTrans±\n` +
      "\tArb:\tFixed± WRR32± WRR64± WRR128± TWRR128± WRR256±",
    control: `\tCtrl:\tEnable± ID={channelId} ArbSelect=${arbitration(CHANNEL_ARBITRATIONS, control)} ` +
      "TC/VC={trafficClassMap:2}",
    status: "\tStatus:\tNegoPending± InProgress±",
  });
}
