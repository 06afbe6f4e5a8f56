/**
 * Extended capabilities as `lspci -vv` prints them.
 *
 * @module
 */

import { ACCESS_CONTROL as ACS } from "../capability/access_control.ts";
import {
  ADVANCED_ERROR_REPORTING as AER,
  ROOT_ERROR_REGISTERS as ROOT,
} from "../capability/advanced_error_reporting.ts";
import type { CapabilityOf } from "../capability/all.ts";
import { ALTERNATIVE_ROUTING_ID as ARI } from "../capability/alternative_routing_id.ts";
import { DOWNSTREAM_PORT_CONTAINMENT as DPC } from "../capability/downstream_port_containment.ts";
import { L1_SUBSTATES as L1 } from "../capability/l1_substates.ts";
import { PAGE_REQUEST as PRI } from "../capability/page_request.ts";
import { PASID } from "../capability/pasid.ts";
import { SECONDARY_EXPRESS as SECONDARY } from "../capability/secondary_express.ts";
import { SRIOV } from "../capability/sriov.ts";
import {
  VIRTUAL_CHANNEL as VC,
  VIRTUAL_CHANNEL_RESOURCE as VC_RESOURCE,
} from "../capability/virtual_channel.ts";
import { formatBaseAddress } from "./base_address.ts";
import type { CapabilityFormats, FormatContext } from "./options.ts";
import { fill, flag, hex, when } from "./text.ts";

/** Errors that `lspci` names; it leaves later additions out. */
const UNCORRECTABLE =
  "DLP± SDES± TLP± FCP± CmpltTO± CmpltAbrt± UnxCmplt± RxOF± MalfTLP± ECRC± UnsupReq± ACSViol±";
const CORRECTABLE = "RxErr± BadTLP± BadDLLP± Rollover± Timeout± AdvNonFatalErr±";
const ACS_FLAGS = "SrcValid± TransBlk± ReqRedir± CmpltRedir± UpstreamFwd± EgressCtrl± DirectTrans±";
const L1_FLAGS = "PCI-PM_L1.2± PCI-PM_L1.1± ASPM_L1.2± ASPM_L1.1±";
const PORT_ARBITRATIONS = ["Fixed", "WRR32", "WRR64", "WRR128"];
const CHANNEL_ARBITRATIONS = ["Fixed", "WRR32", "WRR64", "WRR128", "TWRR128", "WRR256"];
const BAR_SIZE_UNITS = ["MB", "GB", "TB", "PB", "EB"];
const STEERING_TABLES = [
  "No steering table available",
  "Steering table in TPH capability structure",
  "Steering table in MSI-X table",
];

/** The extended list. */
export const EXTENDED_FORMATS: CapabilityFormats = {
  "advanced-error-reporting": errorLines,
  "virtual-channel": ({ name, capabilities1: c1, capabilities2, control, status, channels }) => [
    name,
    `\t\tCaps:\tLPEVC=${c1.lowPriorityExtendedVcCount} RefClk=${
      c1.referenceClock === 0 ? "100ns" : c1.referenceClock
    } PATEntryBits=${1 << c1.arbitrationEntrySize}`,
    fill("\t\tArb:\tFixed± WRR32± WRR64± WRR128±", VC.registers.capabilities2, capabilities2),
    `\t\tCtrl:\tArbSelect=${arbitration(PORT_ARBITRATIONS, control)}`,
    fill("\t\tStatus:\tInProgress±", VC.registers.status, status),
    ...channels.flatMap(channelLines),
  ],
  "device-serial-number": ({ name, text }) => [`${name} ${text}`],
  "extended-vendor-specific": ({ name, vsecId, revision, lengthBytes }) => [
    `${name}: ID=${hex(vsecId, 4)} Rev=${revision} Len=${hex(lengthBytes, 3)} <?>`,
  ],
  "designated-vendor-specific": ({ name, dvsecVendorId, dvsecId, revision, lengthBytes }) => [
    `${name}: Vendor=${hex(dvsecVendorId, 4)} ID=${hex(dvsecId, 4)} Rev=${revision} Len=${lengthBytes} <?>`,
  ],
  "access-control": ({ name, capabilities, control }) => [
    name,
    fill(`\t\tACSCap:\t${ACS_FLAGS}`, ACS.registers.capabilities, capabilities),
    fill(`\t\tACSCtl:\t${ACS_FLAGS}`, ACS.registers.control, control),
  ],
  "alternative-routing-id": ({ name, capabilities, control }) => [
    name,
    fill("\t\tARICap:\tMFVC± ACS±, Next Function: {nextFunction}", ARI.registers.capabilities, capabilities),
    fill("\t\tARICtl:\tMFVC± ACS±, Function Group: {functionGroup}", ARI.registers.control, control),
  ],
  "address-translation": ({ name, capabilities, control }) => [
    name,
    `\t\tATSCap:\tInvalidate Queue Depth: ${hex(capabilities.invalidateQueueDepth, 2)}`,
    `\t\tATSCtl:\tEnable${flag(control.enable)}, ` +
    `Smallest Translation Unit: ${hex(control.smallestTranslationUnit, 2)}`,
  ],
  "sr-iov": sriovLines,
  "page-request": ({ name, control, status, capacity, allocation }) => [
    name,
    fill("\t\tPRICtl: Enable± Reset±", PRI.registers.control, control),
    fill("\t\tPRISta: RF± UPRGI± Stopped±", PRI.registers.status, status),
    `\t\tPage Request Capacity: ${hex(capacity, 8)}, Page Request Allocation: ${hex(allocation, 8)}`,
  ],
  "resizable-bar": ({ isForVfs, bars }) => [
    `${isForVfs ? "Virtual" : "Physical"} Resizable BAR`,
    ...bars.map(({ bar, sizeBytes, supportedBytes }) => {
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
  "latency-tolerance": ({ name, maxSnoopLatencyNs, maxNoSnoopLatencyNs }) => [
    name,
    `\t\tMax snoop latency: ${maxSnoopLatencyNs}ns`,
    `\t\tMax no snoop latency: ${maxNoSnoopLatencyNs}ns`,
  ],
  "secondary-express": ({ name, linkControl3, laneErrorStatus }) => {
    const lanes = Array.from({ length: 32 }, (_, lane) => lane).filter((lane) =>
      (laneErrorStatus >>> lane) & 1
    );
    return [
      name,
      fill("\t\tLnkCtl3: LnkEquIntrruptEn± PerformEqu±", SECONDARY.registers.linkControl3, linkControl3),
      `\t\tLaneErrStat: ${lanes.length === 0 ? "0" : `LaneErr at lane: ${lanes.join(" ")}`}`,
    ];
  },
  pasid: ({ name, capabilities, control }) => [
    name,
    fill(
      "\t\tPASIDCap: Exec± Priv±, Max PASID Width: {maxPasidWidth:2}",
      PASID.registers.capabilities,
      capabilities,
    ),
    fill("\t\tPASIDCtl: Enable± Exec± Priv±", PASID.registers.control, control),
  ],
  "downstream-port-containment": ({ name, capabilities, control, status, source }) => [
    name,
    fill(
      "\t\tDpcCap:\tINT Msg #{interruptMessageNumber}, RPExt± PoisonedTLP± SwTrigger± " +
        "RP PIO Log {rpPioLogSize}, DL_ActiveErr±",
      DPC.registers.capabilities,
      capabilities,
    ),
    fill(
      "\t\tDpcCtl:\tTrigger:{triggerEnable} Cmpl± INT± ErrCor± PoisonedTLP± SwTrigger± DL_ActiveErr±",
      DPC.registers.control,
      control,
    ),
    fill(
      "\t\tDpcSta:\tTrigger± Reason:{triggerReason:2} INT± RPBusy± " +
        "TriggerExt:{triggerReasonExtension:2} RP PIO ErrPtr:{rpPioFirstErrorPointer:2}",
      DPC.registers.status,
      status,
    ),
    `\t\tSource:\t${hex(source, 4)}`,
  ],
  "l1-substates": l1SubstateLines,
  "precision-time-measurement": ({ name, capabilities: c, control }) => [
    name,
    `\t\tPTMCap: Requester:${flag(c.requester)} Responder:${flag(c.responder)} Root:${flag(c.root)}`,
    `\t\tPTMClockGranularity: ${granularityText(c.granularity, "Unimplemented")}`,
    `\t\tPTMControl: Enabled:${flag(control.enable)} RootSelected:${flag(control.rootSelect)}`,
    `\t\tPTMEffectiveGranularity: ${granularityText(control.effectiveGranularity, "Unknown")}`,
  ],
};

/** The root registers only where they mean something. */
function errorLines(
  cap: CapabilityOf<"advanced-error-reporting">,
  { capabilities }: FormatContext,
): string[] {
  const isRoot = capabilities.some((one) => one.kind === "express" && one.root !== undefined);
  return [
    cap.name,
    fill(`\t\tUESta:\t${UNCORRECTABLE}`, AER.registers.uncorrectableStatus, cap.uncorrectableStatus),
    fill(`\t\tUEMsk:\t${UNCORRECTABLE}`, AER.registers.uncorrectableMask, cap.uncorrectableMask),
    fill(`\t\tUESvrt:\t${UNCORRECTABLE}`, AER.registers.uncorrectableSeverity, cap.uncorrectableSeverity),
    fill(`\t\tCESta:\t${CORRECTABLE}`, AER.registers.correctableStatus, cap.correctableStatus),
    fill(`\t\tCEMsk:\t${CORRECTABLE}`, AER.registers.correctableMask, cap.correctableMask),
    fill(
      "\t\tAERCap:\tFirst Error Pointer: {firstErrorPointer:2}, " +
        "ECRCGenCap± ECRCGenEn± ECRCChkCap± ECRCChkEn±",
      AER.registers.control,
      cap.control,
    ),
    fill("\t\t\tMultHdrRecCap± MultHdrRecEn± TLPPfxPres± HdrLogCap±", AER.registers.control, cap.control),
    `\t\tHeaderLog: ${cap.headerLog.map((dword) => hex(dword, 8)).join(" ")}`,
    ...(isRoot && cap.root !== undefined ? rootErrorLines(cap.root) : []),
  ];
}

function rootErrorLines(root: NonNullable<CapabilityOf<"advanced-error-reporting">["root"]>): string[] {
  return [
    fill("\t\tRootCmd: CERptEn± NFERptEn± FERptEn±", ROOT.command, root.command),
    fill("\t\tRootSta: CERcvd± MultCERcvd± UERcvd± MultUERcvd±", ROOT.status, root.status),
    fill(
      "\t\t\t FirstFatal± NonFatalMsg± FatalMsg± IntMsg {interruptMessageNumber}",
      ROOT.status,
      root.status,
    ),
    `\t\tErrorSrc: ERR_COR: ${hex(root.correctableSource, 4)} ` +
    `ERR_FATAL/NONFATAL: ${hex(root.uncorrectableSource, 4)}`,
  ];
}

function sriovLines(cap: CapabilityOf<"sr-iov">, { options }: FormatContext): string[] {
  const { offset, bar } = cap.vfMigrationStateArray;
  return [
    cap.name,
    fill(
      "\t\tIOVCap:\tMigration± 10BitTagReq± Interrupt Message Number: {migrationInterruptMessageNumber:3}",
      SRIOV.registers.capabilities,
      cap.capabilities,
    ),
    fill(
      "\t\tIOVCtl:\tEnable± Migration± Interrupt± MSE± ARIHierarchy± 10BitTagReq±",
      SRIOV.registers.control,
      cap.control,
    ),
    fill("\t\tIOVSta:\tMigration±", SRIOV.registers.status, cap.status),
    `\t\tInitial VFs: ${cap.initialVfs}, Total VFs: ${cap.totalVfs}, Number of VFs: ${cap.numVfs}, ` +
    `Function Dependency Link: ${hex(cap.functionDependencyLink, 2)}`,
    `\t\tVF offset: ${cap.firstVfOffset}, stride: ${cap.vfStride}, Device ID: ${hex(cap.vfDeviceId, 4)}`,
    `\t\tSupported Page Size: ${hex(cap.supportedPageSizes, 8)}, ` +
    `System Page Size: ${hex(cap.systemPageSize, 8)}`,
    ...cap.vfBars.map((vfBar) => {
      const sized = { ...vfBar, sizeBytes: options.vfBarSizes?.[vfBar.index] ?? 0 };
      // `lspci` writes the address of a VF BAR in full, unlike that of a BAR.
      const addressDigits = vfBar.addressBits === 64 ? 16 : 8;
      return `\t\t${formatBaseAddress(sized, { enabled: true, addressDigits })}`;
    }),
    `\t\tVF Migration: offset: ${hex(offset, 8)}, BIR: ${bar}`,
  ];
}

function l1SubstateLines(cap: CapabilityOf<"l1-substates">): string[] {
  const { capabilities: c, control1 } = cap, hasL12 = c.pciPmL12 || c.aspmL12;
  const time = (value: number | undefined) => value === undefined ? "<error>" : `${value}us`;
  const threshold = when(c.aspmL12, ` LTR1.2_Threshold=${cap.ltrThresholdNs}ns`);
  return [
    cap.name,
    fill(`\t\tL1SubCap: ${L1_FLAGS} L1_PM_Substates±`, L1.registers.capabilities, c),
    ...(hasL12
      ? [
        `\t\t\t  PortCommonModeRestoreTime=${c.commonModeRestoreTimeUs}us ` +
        `PortTPowerOnTime=${time(cap.portPowerOnUs)}`,
      ]
      : []),
    fill(`\t\tL1SubCtl1: ${L1_FLAGS}`, L1.registers.control1, control1),
    ...(hasL12 ? [`\t\t\t   T_CommonMode=${control1.commonModeRestoreTimeUs}us${threshold}`] : []),
    `\t\tL1SubCtl2:${when(hasL12, ` T_PwrOn=${time(cap.powerOnUs)}`)}`,
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
  { capabilities, control, status }: CapabilityOf<"virtual-channel">["channels"][number],
  index: number,
): string[] {
  return [
    fill(
      `\t\tVC${index}:\tCaps:\tPATOffset={arbitrationTableOffset:2} ` +
        `MaxTimeSlots=${capabilities.maxTimeSlots + 1} RejSnoopTrans±`,
      VC_RESOURCE.capabilities,
      capabilities,
    ),
    fill("\t\t\tArb:\tFixed± WRR32± WRR64± WRR128± TWRR128± WRR256±", VC_RESOURCE.capabilities, capabilities),
    fill(
      `\t\t\tCtrl:\tEnable± ID={channelId} ArbSelect=${arbitration(CHANNEL_ARBITRATIONS, control)} ` +
        "TC/VC={trafficClassMap:2}",
      VC_RESOURCE.control,
      control,
    ),
    fill("\t\t\tStatus:\tNegoPending± InProgress±", VC_RESOURCE.status, status),
  ];
}
