/**
 * Extended capabilities as `lspci -vv` prints them.
 *
 * @module
 */

import * as acs from "../capability/access_control.ts";
import * as aer from "../capability/advanced_error_reporting.ts";
import * as ari from "../capability/alternative_routing_id.ts";
import type * as ats from "../capability/address_translation.ts";
import * as dpc from "../capability/downstream_port_containment.ts";
import * as l1ss from "../capability/l1_substates.ts";
import * as pri from "../capability/page_request.ts";
import * as pasid from "../capability/pasid.ts";
import type * as ptm from "../capability/precision_time_measurement.ts";
import type { ResizableBarCapability } from "../capability/resizable_bar.ts";
import * as secondary from "../capability/secondary_express.ts";
import * as sriov from "../capability/sriov.ts";
import type { TphRequesterCapability } from "../capability/tph_requester.ts";
import * as vc from "../capability/virtual_channel.ts";
import { formatFlags } from "../../registers/declaration.ts";
import { flag, hex } from "./text.ts";
import { formatBaseAddress } from "./base_address.ts";

/** Uncorrectable errors that `lspci` names; later additions are printed only when set. */
const UNCORRECTABLE = [
  "dataLinkProtocol",
  "surpriseDown",
  "poisonedTlp",
  "flowControlProtocol",
  "completionTimeout",
  "completerAbort",
  "unexpectedCompletion",
  "receiverOverflow",
  "malformedTlp",
  "ecrc",
  "unsupportedRequest",
  "acsViolation",
] as const;

const CORRECTABLE = [
  "receiverError",
  "badTlp",
  "badDllp",
  "replayNumberRollover",
  "replayTimerTimeout",
  "advisoryNonFatal",
] as const;

/** Lines of an Advanced Error Reporting capability; the root registers only where they mean something. */
export function formatAdvancedErrorReporting(
  cap: aer.AdvancedErrorReportingCapability,
  isRoot: boolean,
): string[] {
  const uncorrectable = (value: typeof cap.uncorrectableStatus) =>
    formatFlags(aer.UNCORRECTABLE_STATUS, value, UNCORRECTABLE);
  const correctable = (value: typeof cap.correctableStatus) =>
    formatFlags(aer.CORRECTABLE_STATUS, value, CORRECTABLE);
  const lines = [
    "Advanced Error Reporting",
    `\t\tUESta:\t${uncorrectable(cap.uncorrectableStatus)}`,
    `\t\tUEMsk:\t${uncorrectable(cap.uncorrectableMask)}`,
    `\t\tUESvrt:\t${uncorrectable(cap.uncorrectableSeverity)}`,
    `\t\tCESta:\t${correctable(cap.correctableStatus)}`,
    `\t\tCEMsk:\t${correctable(cap.correctableMask)}`,
    `\t\tAERCap:\tFirst Error Pointer: ${hex(cap.control.firstErrorPointer, 2)}, ${
      formatFlags(aer.AER_CONTROL, cap.control, [
        "ecrcGenerationCapable",
        "ecrcGenerationEnable",
        "ecrcCheckCapable",
        "ecrcCheckEnable",
      ])
    }`,
    `\t\t\t${
      formatFlags(aer.AER_CONTROL, cap.control, [
        "multipleHeaderRecordingCapable",
        "multipleHeaderRecordingEnable",
        "tlpPrefixLogPresent",
        "completionTimeoutLogCapable",
      ])
    }`,
    `\t\tHeaderLog: ${cap.headerLog.map((dword) => hex(dword, 8)).join(" ")}`,
  ];
  if (isRoot && cap.root !== undefined) {
    const { command, status, correctableSource, uncorrectableSource } = cap.root;
    lines.push(
      `\t\tRootCmd: ${formatFlags(aer.ROOT_ERROR_COMMAND, command)}`,
      `\t\tRootSta: ${
        formatFlags(aer.ROOT_ERROR_STATUS, status, [
          "correctableReceived",
          "multipleCorrectable",
          "uncorrectableReceived",
          "multipleUncorrectable",
        ])
      }`,
      `\t\t\t ${
        formatFlags(aer.ROOT_ERROR_STATUS, status, ["firstFatal", "nonFatalReceived", "fatalReceived"])
      } IntMsg ${status.interruptMessageNumber}`,
      `\t\tErrorSrc: ERR_COR: ${hex(correctableSource, 4)} ERR_FATAL/NONFATAL: ${
        hex(uncorrectableSource, 4)
      }`,
    );
  }
  return lines;
}

/** Lines of an SR-IOV capability. */
export function formatSriov(
  cap: sriov.SriovCapability,
  vfBarSizes: readonly (number | undefined)[],
): string[] {
  const c = cap.capabilities;
  return [
    "Single Root I/O Virtualization (SR-IOV)",
    `\t\tIOVCap:\t${formatFlags(sriov.SRIOV_CAPABILITIES, c, ["vfMigration", "vf10BitTagRequester"])} ` +
    `Interrupt Message Number: ${hex(c.migrationInterruptMessageNumber, 3)}`,
    `\t\tIOVCtl:\t${formatFlags(sriov.SRIOV_CONTROL, cap.control)}`,
    `\t\tIOVSta:\t${formatFlags(sriov.SRIOV_STATUS, cap.status)}`,
    `\t\tInitial VFs: ${cap.initialVfs}, Total VFs: ${cap.totalVfs}, Number of VFs: ${cap.numVfs}, ` +
    `Function Dependency Link: ${hex(cap.functionDependencyLink, 2)}`,
    `\t\tVF offset: ${cap.firstVfOffset}, stride: ${cap.vfStride}, Device ID: ${hex(cap.vfDeviceId, 4)}`,
    `\t\tSupported Page Size: ${hex(cap.supportedPageSizes, 8)}, System Page Size: ${
      hex(cap.systemPageSize, 8)
    }`,
    ...cap.vfBars.map((bar) => {
      const sized = { ...bar, sizeBytes: vfBarSizes[bar.index] ?? 0 };
      // `lspci` writes the address of a VF BAR in full, unlike that of a BAR.
      return `\t\t${
        formatBaseAddress(sized, { enabled: true, addressDigits: bar.addressBits === 64 ? 16 : 8 })
      }`;
    }),
    `\t\tVF Migration: offset: ${
      hex(cap.vfMigrationStateArray.offset, 8)
    }, BIR: ${cap.vfMigrationStateArray.bar}`,
  ];
}

/** Lines of an Access Control Services capability. */
export function formatAccessControl(cap: acs.AccessControlCapability): string[] {
  const flags = [
    "sourceValidation",
    "translationBlocking",
    "requestRedirect",
    "completionRedirect",
    "upstreamForwarding",
    "egressControl",
    "directTranslated",
  ] as const;
  return [
    "Access Control Services",
    `\t\tACSCap:\t${formatFlags(acs.ACS_CAPABILITIES, cap.capabilities, flags)}`,
    `\t\tACSCtl:\t${formatFlags(acs.ACS_CONTROL, cap.control, flags)}`,
  ];
}

/** Lines of an ARI capability. */
export function formatAlternativeRoutingId(cap: ari.AlternativeRoutingIdCapability): string[] {
  return [
    "Alternative Routing-ID Interpretation (ARI)",
    `\t\tARICap:\t${formatFlags(ari.ARI_CAPABILITIES, cap.capabilities)}, ` +
    `Next Function: ${cap.capabilities.nextFunction}`,
    `\t\tARICtl:\t${formatFlags(ari.ARI_CONTROL, cap.control)}, Function Group: ${cap.control.functionGroup}`,
  ];
}

/** Lines of an ATS capability. */
export function formatAddressTranslation(cap: ats.AddressTranslationCapability): string[] {
  return [
    "Address Translation Service (ATS)",
    `\t\tATSCap:\tInvalidate Queue Depth: ${hex(cap.capabilities.invalidateQueueDepth, 2)}`,
    `\t\tATSCtl:\tEnable${flag(cap.control.enable)}, ` +
    `Smallest Translation Unit: ${hex(cap.control.smallestTranslationUnit, 2)}`,
  ];
}

/** Lines of a PRI capability. */
export function formatPageRequest(cap: pri.PageRequestCapability): string[] {
  return [
    "Page Request Interface (PRI)",
    `\t\tPRICtl: ${formatFlags(pri.PAGE_REQUEST_CONTROL, cap.control)}`,
    `\t\tPRISta: ${
      formatFlags(pri.PAGE_REQUEST_STATUS, cap.status, ["responseFailure", "unexpectedGroupIndex", "stopped"])
    }`,
    `\t\tPage Request Capacity: ${hex(cap.capacity, 8)}, Page Request Allocation: ${hex(cap.allocation, 8)}`,
  ];
}

/** Lines of a PASID capability. */
export function formatPasid(cap: pasid.PasidCapability): string[] {
  return [
    "Process Address Space ID (PASID)",
    `\t\tPASIDCap: ${formatFlags(pasid.PASID_CAPABILITIES, cap.capabilities)}, ` +
    `Max PASID Width: ${hex(cap.capabilities.maxPasidWidth, 2)}`,
    `\t\tPASIDCtl: ${formatFlags(pasid.PASID_CONTROL, cap.control)}`,
  ];
}

/** Lines of a DPC capability. */
export function formatDownstreamPortContainment(cap: dpc.DownstreamPortContainmentCapability): string[] {
  const { capabilities: c, control, status } = cap;
  return [
    "Downstream Port Containment",
    `\t\tDpcCap:\tINT Msg #${c.interruptMessageNumber}, ${
      formatFlags(dpc.DPC_CAPABILITIES, c, [
        "rootPortExtensions",
        "poisonedTlpEgressBlocking",
        "softwareTrigger",
      ])
    } RP PIO Log ${c.rpPioLogSize}, ${formatFlags(dpc.DPC_CAPABILITIES, c, ["linkActiveErrCor"])}`,
    `\t\tDpcCtl:\tTrigger:${hex(control.triggerEnable)} ${formatFlags(dpc.DPC_CONTROL, control)}`,
    `\t\tDpcSta:\tTrigger${flag(status.trigger)} Reason:${hex(status.triggerReason, 2)} ${
      formatFlags(dpc.DPC_STATUS, status, ["interrupt", "rootPortBusy"])
    } TriggerExt:${hex(status.triggerReasonExtension, 2)} RP PIO ErrPtr:${
      hex(status.rpPioFirstErrorPointer, 2)
    }`,
    `\t\tSource:\t${hex(cap.source, 4)}`,
  ];
}

/** Lines of an L1 PM Substates capability. */
export function formatL1Substates(cap: l1ss.L1SubstatesCapability): string[] {
  const { capabilities: c, control1 } = cap;
  const time = (value: number | undefined) => value === undefined ? "<error>" : `${value}us`;
  return [
    "L1 PM Substates",
    `\t\tL1SubCap: ${formatFlags(l1ss.L1_CAPABILITIES, c)}`,
    ...(c.pciPmL12 || c.aspmL12
      ? [
        `\t\t\t  PortCommonModeRestoreTime=${c.commonModeRestoreTimeUs}us PortTPowerOnTime=${
          time(cap.portPowerOnUs)
        }`,
      ]
      : []),
    `\t\tL1SubCtl1: ${formatFlags(l1ss.L1_CONTROL_1, control1)}`,
    ...(c.pciPmL12 || c.aspmL12
      ? [
        `\t\t\t   T_CommonMode=${control1.commonModeRestoreTimeUs}us` +
        (c.aspmL12 ? ` LTR1.2_Threshold=${cap.ltrThresholdNs}ns` : ""),
      ]
      : []),
    `\t\tL1SubCtl2:${c.pciPmL12 || c.aspmL12 ? ` T_PwrOn=${time(cap.powerOnUs)}` : ""}`,
  ];
}

/** Lines of a PTM capability. */
export function formatPrecisionTimeMeasurement(cap: ptm.PrecisionTimeMeasurementCapability): string[] {
  const { capabilities: c, control } = cap;
  const granularity = (value: number, zero: string) =>
    value === 0 ? zero : value === 255 ? "Greater than 254ns" : `${value}ns`;
  return [
    "Precision Time Measurement",
    `\t\tPTMCap: Requester:${flag(c.requester)} Responder:${flag(c.responder)} Root:${flag(c.root)}`,
    `\t\tPTMClockGranularity: ${granularity(c.granularity, "Unimplemented")}`,
    `\t\tPTMControl: Enabled:${flag(control.enable)} RootSelected:${flag(control.rootSelect)}`,
    `\t\tPTMEffectiveGranularity: ${granularity(control.effectiveGranularity, "Unknown")}`,
  ];
}

const BAR_SIZE_UNITS = ["MB", "GB", "TB", "PB", "EB"];

/** Lines of a Resizable BAR capability. */
export function formatResizableBar(cap: ResizableBarCapability): string[] {
  const size = (bytes: number) => {
    const exponent = Math.log2(bytes) - 20;
    return `${2 ** (exponent % 10)}${BAR_SIZE_UNITS[Math.floor(exponent / 10)] ?? "?"}`;
  };
  return [
    cap.isForVfs ? "Virtual Resizable BAR" : "Physical Resizable BAR",
    ...cap.bars.map((bar) =>
      `\t\tBAR ${bar.bar}: current size: ${size(bar.sizeBytes)}, supported: ${
        bar.supportedBytes.map((bytes) => size(bytes)).join(" ")
      }`
    ),
  ];
}

/** Lines of a TPH Requester capability. */
export function formatTphRequester(cap: TphRequesterCapability): string[] {
  const c = cap.capabilities;
  const lines = ["Transaction Processing Hints"];
  if (c.interruptVectorMode) lines.push("\t\tInterrupt vector mode supported");
  if (c.deviceSpecificMode) lines.push("\t\tDevice specific mode supported");
  if (c.extendedRequester) lines.push("\t\tExtended requester support");
  const places = [
    "No steering table available",
    "Steering table in TPH capability structure",
    "Steering table in MSI-X table",
  ];
  lines.push(`\t\t${places[c.tableLocation] ?? "Reserved steering table location"}`);
  return lines;
}

const PORT_ARBITRATIONS = ["Fixed", "WRR32", "WRR64", "WRR128"];
const CHANNEL_ARBITRATIONS = ["Fixed", "WRR32", "WRR64", "WRR128", "TWRR128", "WRR256"];

/** Lines of a Virtual Channel capability. */
export function formatVirtualChannel(cap: vc.VirtualChannelCapability): string[] {
  const { capabilities1: c1, capabilities2: c2, control, status } = cap;
  const clock = c1.referenceClock === 0 ? "100ns" : `${c1.referenceClock}`;
  return [
    "Virtual Channel",
    `\t\tCaps:\tLPEVC=${c1.lowPriorityExtendedVcCount} RefClk=${clock} ` +
    `PATEntryBits=${1 << c1.arbitrationEntrySize}`,
    `\t\tArb:\t${formatFlags(vc.VC_PORT_CAPABILITIES_2, c2)}`,
    `\t\tCtrl:\tArbSelect=${
      PORT_ARBITRATIONS[control.arbitrationSelect] ?? `??${control.arbitrationSelect}`
    }`,
    `\t\tStatus:\t${formatFlags(vc.VC_PORT_STATUS, status)}`,
    ...cap.channels.flatMap(channelLines),
  ];
}

function channelLines(channel: vc.VirtualChannel, index: number): string[] {
  const { capabilities: c, control, status } = channel;
  const select = CHANNEL_ARBITRATIONS[control.arbitrationSelect] ?? `??${control.arbitrationSelect}`;
  return [
    `\t\tVC${index}:\tCaps:\tPATOffset=${hex(c.arbitrationTableOffset, 2)} MaxTimeSlots=${
      c.maxTimeSlots + 1
    } ` +
    `RejSnoopTrans${flag(c.rejectSnoop)}`,
    `\t\t\tArb:\t${
      formatFlags(vc.VC_RESOURCE_CAPABILITIES, c, [
        "fixed",
        "wrr32",
        "wrr64",
        "wrr128",
        "timeBasedWrr128",
        "wrr256",
      ])
    }`,
    `\t\t\tCtrl:\tEnable${flag(control.enable)} ID=${control.channelId} ArbSelect=${select} ` +
    `TC/VC=${hex(control.trafficClassMap, 2)}`,
    `\t\t\tStatus:\t${
      formatFlags(vc.VC_RESOURCE_STATUS, status, ["negotiationPending", "arbitrationTableStatus"])
    }`,
  ];
}

/** Lines of a Secondary PCI Express capability. */
export function formatSecondaryExpress(cap: secondary.SecondaryExpressCapability): string[] {
  const lanes: number[] = [];
  for (let lane = 0; lane < 32; lane++) if ((cap.laneErrorStatus >>> lane) & 1) lanes.push(lane);
  return [
    "Secondary PCI Express",
    `\t\tLnkCtl3: ${
      formatFlags(secondary.LINK_CONTROL_3, cap.linkControl3, [
        "equalizationRequestInterrupt",
        "performEqualization",
      ])
    }`,
    `\t\tLaneErrStat: ${lanes.length === 0 ? "0" : `LaneErr at lane: ${lanes.join(" ")}`}`,
  ];
}
