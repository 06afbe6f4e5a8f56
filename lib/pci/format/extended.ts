/**
 * Extended capabilities as `lspci -vv` prints them.
 *
 * @module
 */

import { ROOT_ERROR_REGISTERS } from "../capability/advanced_error_reporting.ts";
import type { CapabilityOf } from "../capability/all.ts";
import { DEVICE_3 } from "../capability/device_3.ts";
import {
  INTEGRITY_AND_DATA_ENCRYPTION as IDE,
  LINK_IDE_STREAM,
  SELECTIVE_IDE_STREAM,
} from "../capability/integrity_and_data_encryption.ts";
import { L1_SUBSTATES as L1 } from "../capability/l1_substates.ts";
import { MULTICAST } from "../capability/multicast.ts";
import { PHYSICAL_LAYER_32 as PHY32 } from "../capability/physical_layer.ts";
import { ROOT_COMPLEX_LINK, ROOT_COMPLEX_LINK_ENTRY } from "../capability/root_complex_link.ts";
import { VIRTUAL_CHANNEL as VC, VIRTUAL_CHANNEL_RESOURCE } from "../capability/virtual_channel.ts";
import { formatBaseAddress } from "./base_address.ts";
import { declaredLines } from "./declared.ts";
import type { CapabilityFormats, FormatContext } from "./options.ts";
import { hex } from "../hex.ts";
import { flag, nameOf, registerLines, when } from "./text.ts";

const L1_FLAGS = "PCI-PM_L1.2± PCI-PM_L1.1± ASPM_L1.2± ASPM_L1.1±";
const PORT_ARBITRATIONS = ["Fixed", "WRR32", "WRR64", "WRR128"];
const CHANNEL_ARBITRATIONS = ["Fixed", "WRR32", "WRR64", "WRR128", "TWRR128", "WRR256"];
const BAR_SIZE_UNITS = ["MB", "GB", "TB", "PB", "EB"];
const TS_MODES = ["PCI Express", "Training Set Messages", "Alternate Protocol Negotiation"];
const LINK_BEHAVIORS = [
  "Full Equalization required",
  "Equalization bypass to highest rate support",
  "No Equalization Needed",
  "Modified TS1/TS2 Ordered Sets supported",
];
const L0P_LATENCIES = [
  "Less than 1us",
  "1us to less than 2us",
  "2us to less than 4us",
  "4us to less than 8us",
  "8us to less than 16us",
  "16us to less than 32us",
  "32us-64us",
  "More than 64us",
];
const LINK_WIDTHS = ["x1", "x2", "x4", "x8", "x16", undefined, undefined, "Dynamic"];
const STREAM_STATES = ["insecure", "reserved", "secure"];
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
    const clock = nameOf(["100ns"], referenceClock), { arbitrationTableOffset } = cap.capabilities2;
    const place = hex(cap.offset + 16 * arbitrationTableOffset);
    return [
      cap.name,
      ...registerLines(VC.registers, cap, {
        capabilities1: `Caps:\tLPEVC={lowPriorityExtendedVcCount} RefClk=${clock} ` +
          `PATEntryBits=${1 << arbitrationEntrySize}`,
        capabilities2: "Arb:\tFixed± WRR32± WRR64± WRR128±",
        control: `Ctrl:\tArbSelect=${arbitration(PORT_ARBITRATIONS, cap.control)}`,
        status: "Status:\tInProgress±",
      }),
      ...(arbitrationTableOffset === 0
        ? []
        : [`\t\tPort Arbitration Table [${place}] ${phasesText(cap.vcArbitration)}`]),
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
      const supported = supportedBytes.map((size) => ` ${barSizeText(size)}`).join("");
      return `\t\tBAR ${bar}: current size: ${barSizeText(sizeBytes)}${
        when(supported !== "", `, supported:${supported}`)
      }`;
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
  multicast: multicastLines,
  "root-complex-link": (cap) => [
    cap.name,
    ...registerLines(ROOT_COMPLEX_LINK.registers, cap, {
      element: "Desc:\tPortNumber={portNumber:2} ComponentID={componentId:2} " +
        `EltType=${nameOf(["Config", "Egress", "Internal"], cap.element.type)}`,
    }),
    ...cap.links.flatMap(linkLines),
  ],
  "event-collector": ({ name, endpointBitmap, devices, buses }) => [
    name,
    `\t\tRCiEPBitmap: ${
      endpointBitmap === 0 ? "00000000 [none]" : `RCiEP at Device(s): ${rangesText(devices)}`
    }`,
    ...(buses === undefined ? [] : [
      `\t\tAssociatedBusNumbers: ${hex(buses.first, 2)}-${hex(buses.last, 2)}${
        when(buses.first === 0xff && buses.last === 0, " [none]")
      }`,
    ]),
  ],
  "physical-layer-32": (cap) => [
    cap.name,
    ...registerLines(PHY32.registers, cap, {
      capabilities: PHY32.registers.capabilities.text,
      control: "Phy32Ctl: EqualizationBypassDis± NoEqualizationNeededDis±\n" +
        `\t  Modified TS Usage Mode: ${nameOf(TS_MODES, cap.control.modifiedTsMode)}`,
      status: "Phy32Sta: EquComplete± EquPhase1± EquPhase2± EquPhase3± LinkEquRequest±\n" +
        `\t  Received Enhanced Link Behavior Control: ${
          nameOf(LINK_BEHAVIORS, cap.status.enhancedLinkBehavior)
        }\n` +
        "\t  ModTsRecv± TxPrecodeOn± TxPrecodeReq± NoEqualizationNeededRecv±",
    }),
  ],
  "device-3": (cap) => {
    const { capabilities: c, control, status } = cap;
    const latencies = `, Port L0p Exit Latency: ${L0P_LATENCIES[c.portL0pExitLatency]}, ` +
      `Retimer L0p Exit Latency: ${L0P_LATENCIES[c.retimerL0pExitLatency]}`;
    return [
      cap.name,
      ...registerLines(DEVICE_3.registers, cap, {
        capabilities: "DevCap3: DMWr Request Routing{deferrableMemoryWrite}, " +
          "14-Bit Tag Completer{tag14BitCompleter}, 14-Bit Tag Requester{tag14BitRequester}\n" +
          `\t L0p±${when(c.l0p, latencies)}\n` +
          "\t UIO Mem RdWr Completer{uioCompleter}, UIO Mem RdWr Requester{uioRequester}",
        control: "DevCtl3: DMWr Requester{deferrableMemoryWriteRequester}, " +
          "DMWr Egress Blocking{deferrableMemoryWriteEgressBlocking}, " +
          "14-Bit Tag Requester{tag14BitRequester}\n" +
          `\t L0p±, Target Link Width: ${widthText(control.targetLinkWidth)}\n` +
          "\t UIO Mem RdWr Requester{uioRequester}, UIO Request 256B Boundary" +
          flag(!control.uio256BoundaryDisable),
        status: `DevSta3: Initial Link Width: ${widthText(status.initialLinkWidth)}, ` +
          "Segment Captured{segmentCaptured}, Remote L0p{remoteL0p}",
      }),
    ];
  },
  "integrity-and-data-encryption": (cap) => [
    cap.name,
    ...registerLines(IDE.registers, cap, {
      capabilities: `IDECap: Lnk=${cap.linkStreams.length} Sel=${cap.selectiveStreams.length} ` +
        "FlowThru± PartHdr± Aggr± PCRC± IDE_KM± SelCfg± " +
        `Alg=${algorithmText(cap.capabilities.algorithms)} ` +
        `TCs=${cap.capabilities.linkTrafficClasses + 1} TeeLim±`,
      control: IDE.registers.control.text,
    }),
    ...cap.linkStreams.flatMap((stream, i) =>
      registerLines(LINK_IDE_STREAM, stream, {
        control: `LinkIDE#${i} Ctl: ${streamText(stream.control)}`,
        status: `LinkIDE#${i} Sta: ${nameOf(STREAM_STATES, stream.status.state)} RecvChkFail±`,
      })
    ),
    ...cap.selectiveStreams.flatMap((stream, i) => [
      ...registerLines(SELECTIVE_IDE_STREAM, stream, {
        capabilities: `SelectiveIDE#${i} Cap: Addresses={addressAssociations}`,
        control: `SelectiveIDE#${i} Ctl: ${streamText(stream.control)} CFG± TeeLim± Default±`,
        status: `SelectiveIDE#${i} Sta: ${nameOf(STREAM_STATES, stream.status.state)} RecvChkFail±`,
        ridBase: `SelectiveIDE#${i} RID: Valid± Base={base:4} Limit=${hex(stream.ridLimit.limit, 4)} ` +
          "SegBase={segmentBase:2}",
      }),
      ...stream.addresses.map(({ valid, base, limit }, j) =>
        `\t\tSelectiveIDE#${i} Addr#${j}: Valid${flag(valid)} Base=${hex(base)} Limit=${hex(limit)}`
      ),
    ]),
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

/** Of an endpoint the window that it asks for, of a port what it does besides. */
function multicastLines(cap: CapabilityOf<"multicast">, { capabilities }: FormatContext): string[] {
  const type = capabilities.find((one) => one.kind === "express")?.deviceType;
  const isEndpoint = type === "endpoint" || type === "rootComplexEndpoint";
  const isPort = type === "rootPort" || type === "upstreamPort" || type === "downstreamPort";
  const { windowSizeRequested: size, maxGroup } = cap.capabilities;
  const vector = (value: bigint): string => hex(value, 16);
  return [
    cap.name,
    ...registerLines(MULTICAST.registers, cap, {
      capabilities: `McastCap: MaxGroups ${maxGroup + 1}${
        when(isEndpoint, `, WindowSz ${size} (${2 ** size} bytes)`)
      }${when(isPort, ", ECRCRegen±")}`,
      control: `McastCtl: NumGroups ${cap.control.numGroup + 1}, Enable±`,
    }),
    `\t\tMcastBAR: IndexPos ${cap.indexPosition}, BaseAddr ${vector(cap.baseAddress)}`,
    `\t\tMcastReceiveVec:      ${vector(cap.receive)}`,
    `\t\tMcastBlockAllVec:     ${vector(cap.blockAll)}`,
    `\t\tMcastBlockUntransVec: ${vector(cap.blockUntranslated)}`,
    ...(isEndpoint ? [] : [
      `\t\tMcastOverlayBAR: OverlaySize ${cap.overlaySize} ${
        cap.overlaySize >= 6 ? `(${2 ** cap.overlaySize} bytes)` : "(disabled)"
      }, BaseAddr ${vector(cap.overlayAddress)}`,
    ]),
  ];
}

function linkLines(link: CapabilityOf<"root-complex-link">["links"][number], index: number): string[] {
  const type = link.description.toConfiguration ? "Config" : "MemMapped", address = hex(link.address, 16);
  const target = link.function === undefined
    ? address
    : `${hex(link.function.bus, 2)}:${
      hex(link.function.device, 2)
    }.${link.function.function}  CfgSpace=${address}`;
  return registerLines(ROOT_COMPLEX_LINK_ENTRY, link, {
    description: `Link${index}:\tDesc:\tTargetPort={targetPortNumber:2} ` +
      `TargetComponent={targetComponentId:2} AssocRCRB± LinkType=${type} LinkValid±`,
    address: `\tAddr:\t${target}`,
  });
}

/** `0-3, 5`: ascending numbers as ranges. */
function rangesText(numbers: readonly number[]): string {
  const ranges: { first: number; last: number }[] = [];
  for (const number of numbers) {
    const open = ranges.at(-1);
    if (open !== undefined && open.last === number - 1) open.last = number;
    else ranges.push({ first: number, last: number });
  }
  return ranges.map(({ first, last }) => first === last ? `${first}` : `${first}-${last}`).join(", ");
}

function widthText(code: number): string {
  return LINK_WIDTHS[code] ?? `Unknown (${code})`;
}

function algorithmText(code: number): string {
  return nameOf(["AES-GCM-256-96b"], code);
}

/** What the control registers of both kinds of stream begin with. */
function streamText(
  control: CapabilityOf<"integrity-and-data-encryption">["linkStreams"][number]["control"],
): string {
  const aggregation = (code: number): string => ["-", "=2", "=4", "=8"][code]!;
  return `En± NPR${aggregation(control.aggregationNonPosted)} PR${aggregation(control.aggregationPosted)} ` +
    `CPL${aggregation(control.aggregationCompletion)} PCRC± ` +
    `HdrEnc=${nameOf(["no", "17:2", "25:2", "33:2", "41:2"], control.headerEncryption)} ` +
    `Alg=${algorithmText(control.algorithm)} TC{trafficClass} ID{streamId}`;
}

function l1SubstateLines(cap: CapabilityOf<"l1-substates">): string[] {
  const { capabilities: c, control1 } = cap, hasL12 = c.pciPmL12 || c.aspmL12;
  const time = (value: number | undefined) => value === undefined ? "<error>" : `${value}us`;
  const ports = `PortCommonModeRestoreTime=${c.commonModeRestoreTimeUs}us ` +
    `PortTPowerOnTime=${time(cap.portPowerOnUs)}`;
  const limit = cap.ltrThresholdNs === undefined ? "<error>" : `${cap.ltrThresholdNs}ns`;
  const threshold = when(c.aspmL12, ` LTR1.2_Threshold=${limit}`);
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
  if (exponent >= 44) return "<unknown>";
  return `${2 ** (exponent % 10)}${BAR_SIZE_UNITS[Math.floor(exponent / 10)] ?? "?"}`;
}

function arbitration(names: readonly string[], { arbitrationSelect }: { arbitrationSelect: number }): string {
  return nameOf(names, arbitrationSelect);
}

/** `16*0 8*1 8*2`: runs of phases in which it is one's turn. */
function phasesText(phases: readonly number[] | undefined): string {
  if (phases === undefined || phases.length === 0) return "<?>";
  const runs: { whose: number; count: number }[] = [];
  for (const whose of phases) {
    const last = runs.at(-1);
    if (last?.whose === whose) last.count++;
    else runs.push({ whose, count: 1 });
  }
  return runs.map(({ whose, count }) => `${count}*${whose}`).join(" ");
}

function channelLines(
  channel: CapabilityOf<"virtual-channel">["channels"][number],
  index: number,
): string[] {
  const { capabilities, control } = channel;
  const lines = registerLines(VIRTUAL_CHANNEL_RESOURCE, channel, {
    capabilities: `VC${index}:\tCaps:\tPATOffset={arbitrationTableOffset:2} ` +
      `MaxTimeSlots=${capabilities.maxTimeSlots + 1} RejSnoopTrans±\n` +
      "\tArb:\tFixed± WRR32± WRR64± WRR128± TWRR128± WRR256±",
    control: `\tCtrl:\tEnable± ID={channelId} ArbSelect=${arbitration(CHANNEL_ARBITRATIONS, control)} ` +
      "TC/VC={trafficClassMap:2}",
    status: "\tStatus:\tNegoPending± InProgress±",
  });
  return capabilities.arbitrationTableOffset === 0
    ? lines
    : [...lines, `\t\t\tPort Arbitration Table ${phasesText(channel.portArbitration)}`];
}
