/**
 * The PCI Express capability as `lspci -vv` prints it.
 *
 * @module
 */

import { type ExpressCapability, type ExpressType, linkSpeedGigatransfers } from "../capability/express.ts";
import {
  EXPRESS_DEVICE_2 as DEVICE_2,
  EXPRESS_LINK as LINK,
  EXPRESS_LINK_2 as LINK_2,
  EXPRESS_REGISTERS as EXPRESS,
  EXPRESS_ROOT as ROOT,
  EXPRESS_SLOT as SLOT,
} from "../capability/express_registers.ts";
import type { FormatContext } from "./options.ts";
import { hex } from "../hex.ts";
import { flag, registerLines, when } from "./text.ts";

const TYPE_NAMES: Readonly<Record<Exclude<ExpressType, "reserved">, string>> = {
  endpoint: "Endpoint",
  legacyEndpoint: "Legacy Endpoint",
  rootPort: "Root Port",
  upstreamPort: "Upstream Port",
  downstreamPort: "Downstream Port",
  expressToPciBridge: "PCI-Express to PCI/PCI-X Bridge",
  pciToExpressBridge: "PCI/PCI-X to PCI-Express Bridge",
  rootComplexEndpoint: "Root Complex Integrated Endpoint",
  rootComplexEventCollector: "Root Complex Event Collector",
};

const L0S_LATENCIES = ["<64ns", "<128ns", "<256ns", "<512ns", "<1us", "<2us", "<4us", "unlimited"];
const L1_LATENCIES = ["<1us", "<2us", "<4us", "<8us", "<16us", "<32us", "<64us", "unlimited"];
const ASPM_SUPPORT = ["not supported", "L0s", "L1", "L0s L1"];
const ASPM_CONTROL = ["Disabled", "L0s Enabled", "L1 Enabled", "L0s L1 Enabled"];
const INDICATORS = ["Unknown", "On", "Blink", "Off"];
const OBFF_SUPPORT = ["Not Supported", "Via message", "Via WAKE#", "Via message/WAKE#"];
const OBFF_CONTROL = ["Disabled", "Via message A", "Via message B", "Via WAKE#"];
const POWER_REDUCTION = ["Not Supported", "Dev Specific", "Form Factor Dev Specific", "Reserved"];
const LN_CACHE_LINES = ["Not Supported", "64byte cachelines", "128byte cachelines", "Reserved"];
const TIMEOUT_RANGES: Readonly<Record<number, string>> = {
  0: "Not Supported",
  1: "Range A",
  2: "Range B",
  3: "Range AB",
  6: "Range BC",
  7: "Range ABC",
  14: "Range BCD",
  15: "Range ABCD",
};
const TIMEOUTS: Readonly<Record<number, string>> = {
  0: "50us to 50ms",
  1: "50us to 100us",
  2: "1ms to 10ms",
  5: "16ms to 55ms",
  6: "65ms to 210ms",
  9: "260ms to 900ms",
  10: "1s to 3.5s",
  13: "4s to 13s",
  14: "17s to 64s",
};
const PRESETS = [
  "-6dB de-emphasis, 0dB preshoot",
  "-3.5dB de-emphasis, 0dB preshoot",
  "-4.4dB de-emphasis, 0dB preshoot",
  "-2.5dB de-emphasis, 0dB preshoot",
  "0dB de-emphasis, 0dB preshoot",
  "0dB de-emphasis, 1.9dB preshoot",
  "0dB de-emphasis, 2.5dB preshoot",
  "-6.0dB de-emphasis, 3.5dB preshoot",
  "-3.5dB de-emphasis, 3.5dB preshoot",
  "0dB de-emphasis, 3.5dB preshoot",
];
const DOWNSTREAM_COMPONENTS: Readonly<Record<number, string>> = {
  0: "Link Down - Not Determined",
  1: "Link Down - Not Present",
  2: "Link Down - Present",
  4: "Link Up - Present",
  5: "Link Up - Present and DRS Received",
};
const CROSSLINKS = ["unsupported", "Upstream Port", "Downstream Port", "incomplete"];

const MARGINS = ["Normal Operating Range", "800-1200mV(full-swing)/400-700mV(half-swing)"];
const LOW_MARGIN = "200-400mV(full-swing)/100-200mV(half-swing)";

/** Lines of a PCI Express capability: the title first, the details after it. */
export function formatExpress(cap: ExpressCapability, { config, options }: FormatContext): string[] {
  // Only a function with a memory BAR can complete atomic operations.
  const hasMemoryBar = config.bars(options.barSizes).some((bar) => bar.space === "memory");
  // Link registers of an endpoint's further functions repeat those of the first.
  const isSecondary = options.address !== undefined && options.address.devfn !== 0;
  return [
    title(cap),
    ...deviceLines(cap),
    ...linkLines(cap),
    ...slotLines(cap),
    ...(cap.root === undefined ? [] : registerLines(ROOT, cap.root, ROOT_TEXTS)),
    ...device2Lines(cap, hasMemoryBar),
    ...link2Lines(cap, isSecondary && is(cap, "endpoint", "legacyEndpoint")),
  ];
}

const ROOT_TEXTS = {
  capabilities: "RootCap: CRSVisible±",
  control: "RootCtl: ErrCorrectable± ErrNon-Fatal± ErrFatal± PMEIntEna± CRSVisible±",
  status: "RootSta: PME ReqID {pmeRequesterId:4}, PMEStatus± PMEPending±",
};

function title(cap: ExpressCapability): string {
  const { deviceType: code, interruptMessageNumber } = cap.capabilities;
  const type = cap.deviceType === "reserved" ? `Unknown type ${code}` : TYPE_NAMES[cap.deviceType];
  const hasSlotField = is(cap, "rootPort", "downstreamPort", "pciToExpressBridge");
  const slot = when(hasSlotField, ` (Slot${flag(cap.capabilities.slotImplemented)})`);
  return `Express (v${cap.structureVersion}) ${type}${slot}, MSI ${hex(interruptMessageNumber, 2)}`;
}

function is(cap: ExpressCapability, ...types: ExpressType[]): boolean {
  return types.includes(cap.deviceType);
}

function deviceLines(cap: ExpressCapability): string[] {
  const { deviceCapabilities: c, deviceControl: control } = cap;
  const isEndpoint = is(cap, "endpoint", "legacyEndpoint");
  const hasReset = isEndpoint || is(cap, "rootComplexEndpoint");
  const latencies = `, Latency L0s ${L0S_LATENCIES[c.l0sAcceptableLatency]}, ` +
    `L1 ${L1_LATENCIES[c.l1AcceptableLatency]}`;
  const buttons = when(
    isEndpoint || is(cap, "upstreamPort", "expressToPciBridge"),
    " AttnBtn± AttnInd± PwrInd±",
  );
  const power = when(
    is(cap, "endpoint", "upstreamPort", "expressToPciBridge"),
    ` SlotPowerLimit ${powerText(c.slotPowerLimitValue, c.slotPowerLimitScale)}`,
  );
  // Bit 15 of Device Control is Bridge Configuration Retry Enable on such a bridge, and FLR on an endpoint.
  const retry = when(is(cap, "expressToPciBridge"), ` BrConfRtry${flag((control.raw & 0x8000) !== 0)}`);
  const reset = when(hasReset && c.functionLevelReset, " FLReset±");
  return registerLines(EXPRESS, cap, {
    deviceCapabilities: `DevCap:\tMaxPayload {maxPayloadSupportedBytes} bytes, PhantFunc ${
      (1 << c.phantomFunctions) - 1
    }${when(isEndpoint, latencies)}\n\tExtTag±${buttons} RBE±${when(hasReset, " FLReset±")}${power}`,
    deviceControl: "DevCtl:\tCorrErr± NonFatalErr± FatalErr± UnsupReq±\n" +
      `\tRlxdOrd± ExtTag± PhantFunc± AuxPwr± NoSnoop±${retry}${reset}\n` +
      "\tMaxPayload {maxPayloadBytes} bytes, MaxReadReq {maxReadRequestBytes} bytes",
    deviceStatus: "DevSta:\tCorrErr± NonFatalErr± FatalErr± UnsupReq± AuxPwr± TransPend±",
  });
}

const POWER_SCALES = [1, 0.1, 0.01, 0.001];

function powerText(value: number, scale: number): string {
  // Values from 0xf0 up mean 250 W and more in steps of 25 W when the scale is 1 (PCIe 6.0 §7.5.3.9).
  if (scale === 0 && value === 0xff) return ">600W";
  const watts = scale === 0 && value >= 0xf0 ? 250 + 25 * (value - 0xf0) : value * (POWER_SCALES[scale] ?? 0);
  return `${Number(watts.toPrecision(6))}W`;
}

function speedText(code: number): string {
  const speed = linkSpeedGigatransfers(code);
  return speed === undefined ? "unknown" : `${speed}GT/s`;
}

/** How a negotiated value compares to what the port can do. Ports often have a lesser device behind them. */
function comparison(cap: ExpressCapability, current: number, maximum: number): string {
  if (current > maximum) return " (overdriven)";
  if (current === maximum || is(cap, "rootPort", "downstreamPort", "pciToExpressBridge")) return "";
  return " (downgraded)";
}

function linkLines(cap: ExpressCapability): string[] {
  if (cap.link === undefined) return [];
  const { capabilities: c, control, status } = cap.link;
  const exits: string[] = [];
  if (c.aspmSupport & 1) exits.push(`L0s ${L0S_LATENCIES[c.l0sExitLatency]}`);
  if (c.aspmSupport & 2) exits.push(`L1 ${L1_LATENCIES[c.l1ExitLatency]}`);
  const rcb = when(
    is(cap, "rootPort", "endpoint", "legacyEndpoint", "expressToPciBridge"),
    ` RCB ${control.readCompletionBoundary128 ? 128 : 64} bytes,`,
  );
  return registerLines(LINK, cap.link, {
    capabilities: `LnkCap:\tPort #{portNumber}, Speed ${speedText(c.maxSpeed)}, Width x{maxWidth}, ` +
      `ASPM ${ASPM_SUPPORT[c.aspmSupport]}${when(exits.length > 0, `, Exit Latency ${exits.join(", ")}`)}\n` +
      "\tClockPM± Surprise± LLActRep± BwNot± ASPMOptComp±",
    control: `LnkCtl:\tASPM ${ASPM_CONTROL[control.aspmControl]};${rcb} Disabled± CommClk±\n` +
      "\tExtSynch± ClockPM± AutWidDis± BWInt± AutBWInt±",
    status: `LnkSta:\tSpeed ${speedText(status.speed)}${comparison(cap, status.speed, c.maxSpeed)}, ` +
      `Width x{width}${comparison(cap, status.width, c.maxWidth)}\n` +
      "\tTrErr± Train± SlotClk± DLActive± BWMgmt± ABWMgmt±",
  });
}

function slotLines({ slot }: ExpressCapability): string[] {
  if (slot === undefined) return [];
  const { capabilities: c, control } = slot;
  return registerLines(SLOT, slot, {
    capabilities: "SltCap:\tAttnBtn± PwrCtrl± MRL± AttnInd± PwrInd± HotPlug± Surprise±\n" +
      `\tSlot #{slotNumber}, PowerLimit ${
        powerText(c.powerLimitValue, c.powerLimitScale)
      }; Interlock± NoCompl±`,
    control: "SltCtl:\tEnable: AttnBtn± PwrFlt± MRL± PresDet± CmdCplt± HPIrq± LinkChg±\n" +
      `\tControl: AttnInd ${INDICATORS[control.attentionIndicator]}, ` +
      `PwrInd ${INDICATORS[control.powerIndicator]}, Power± Interlock±`,
    status:
      "SltSta:\tStatus: AttnBtn± PowerFlt± MRL{mrlSensorState} CmdCplt± PresDet{presenceDetect} Interlock±\n" +
      "\tChanged: MRL± PresDet± LinkState±",
  });
}

function device2Lines(cap: ExpressCapability, hasMemoryBar: boolean): string[] {
  if (cap.device2 === undefined) return [];
  const { capabilities: c, control } = cap.device2;
  const isPort = is(cap, "rootPort", "downstreamPort");
  const isRouter = isPort || is(cap, "upstreamPort");
  const prefixes = when(c.endToEndTlpPrefix, `, MaxEETLPPrefixes ${c.maxEndToEndTlpPrefixes || 4}`);
  const cacheLines = when(is(cap, "rootPort"), ` LN System CLS ${LN_CACHE_LINES[c.lnSystemCls]},`);
  // Bit 0: TPH, bit 1: extended TPH. Extended without plain is a reserved combination.
  const hints = c.tphCompleter === 2
    ? " "
    : ` TPHComp${flag(c.tphCompleter !== 0)} ExtTPHComp${flag(c.tphCompleter === 3)}`;
  const operations = when(isRouter, " Routing±") +
    when(is(cap, "rootPort") || hasMemoryBar, " 32bit± 64bit± 128bitCAS±");
  const atomics = when(is(cap, "rootPort", "endpoint", "rootComplexEndpoint", "legacyEndpoint"), " ReqEn±") +
    when(isRouter, " EgressBlck±");
  return registerLines(DEVICE_2, cap.device2, {
    capabilities: `DevCap2: Completion Timeout: ${TIMEOUT_RANGES[c.completionTimeoutRanges] ?? "Unknown"}, ` +
      "TimeoutDis± NROPrPrP± LTR±\n" +
      `\t 10BitTagComp± 10BitTagReq± OBFF ${OBFF_SUPPORT[c.obff]}, ExtFmt± EETLPPrefix±${prefixes}\n` +
      `\t EmergencyPowerReduction ${
        POWER_REDUCTION[c.emergencyPowerReduction]
      }, EmergencyPowerReductionInit±\n` +
      `\t FRS±${cacheLines}${when(is(cap, "rootPort", "endpoint"), hints)}${when(isPort, " ARIFwd±")}` +
      when(operations !== "", `\n\t AtomicOpsCap:${operations}`),
    control: `DevCtl2: Completion Timeout: ${TIMEOUTS[control.completionTimeout] ?? "Unknown"}, ` +
      `TimeoutDis± LTR± 10BitTagReq± OBFF ${OBFF_CONTROL[control.obff]},${when(isPort, " ARIFwd±")}` +
      when(atomics !== "", `\n\t AtomicOpsCtl:${atomics}`),
  });
}

function supportedSpeedsText(vector: number): string {
  // Every port supports 2.5 GT/s and may not leave out a rate below its best one.
  const best = Math.floor(Math.log2(vector)) + 1;
  if (vector === 0) return "Unknown";
  if (speedText(best) === "unknown") return "RsvdP";
  return best === 1 ? "2.5GT/s" : `2.5-${speedText(best)}`;
}

function link2Lines(cap: ExpressCapability, repeatsTheFirst: boolean): string[] {
  if (cap.link2 === undefined) return [];
  const { capabilities: c, control, status } = cap.link2;
  const margin = MARGINS[control.transmitMargin] ?? (control.transmitMargin <= 5 ? LOW_MARGIN : "Unknown");
  const target = control.targetSpeed === 0 ? "2.5GT/s" : speedText(control.targetSpeed).replace(/^u/, "U");
  const deEmphasis = when(
    is(cap, "downstreamPort"),
    `, Selectable De-emphasis: ${deEmphasisText(control.selectableDeEmphasis)}`,
  );
  const supported = supportedSpeedsText(c.supportedSpeeds);
  // What DRS says is there only where the port supports it, and this is not a repetition.
  const hasDrs = is(cap, "rootPort", "downstreamPort", "pciToExpressBridge") && c.drs;
  const drs = `, DRS±\n\t DownstreamComp: ${DOWNSTREAM_COMPONENTS[status.downstreamComponent] ?? "Reserved"}`;
  return registerLines(LINK_2, cap.link2, {
    capabilities: repeatsTheFirst || c.raw === 0
      ? undefined
      : `LnkCap2: Supported Link Speeds: ${supported}, Crosslink± Retimer± 2Retimers± DRS±`,
    control: repeatsTheFirst
      ? undefined
      : `LnkCtl2: Target Link Speed: ${target}, EnterCompliance± SpeedDis±${deEmphasis}\n` +
        `\t Transmit Margin: ${margin}, EnterModifiedCompliance± ComplianceSOS±\n` +
        `\t Compliance Preset/De-emphasis: ${PRESETS[control.compliancePreset] ?? "Unknown"}`,
    status: `LnkSta2: Current De-emphasis Level: ${deEmphasisText(status.currentDeEmphasis)}, ` +
      "EqualizationComplete± EqualizationPhase1±\n" +
      "\t EqualizationPhase2± EqualizationPhase3± LinkEqualizationRequest±\n" +
      `\t Retimer± 2Retimers± CrosslinkRes: ${CROSSLINKS[status.crosslinkResolution]}${when(hasDrs, drs)}`,
  });
}

function deEmphasisText(low: boolean): string {
  return low ? "-3.5dB" : "-6dB";
}
