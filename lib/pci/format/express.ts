/**
 * The PCI Express capability as `lspci -vv` prints it.
 *
 * @module
 */

import {
  type ExpressCapability,
  type ExpressDevice2,
  type ExpressLink,
  type ExpressLink2,
  type ExpressRoot,
  type ExpressSlot,
  type ExpressType,
  linkSpeedGigatransfers,
} from "../capability/express.ts";
import * as regs from "../capability/express_registers.ts";
import { formatFlags } from "../../registers/declaration.ts";
import { flag, hex } from "./text.ts";

/** What the text depends on besides the capability. */
export interface ExpressFormatContext {
  /** The function has a memory BAR: only then can it complete atomic operations. */
  readonly hasMemoryBar: boolean;
  /**
   * The function is not the first of its device. Link registers of an endpoint's further functions repeat those of
   * the first.
   */
  readonly isSecondaryFunction: boolean;
}

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
const CROSSLINKS = ["unsupported", "Upstream Port", "Downstream Port", "incomplete"];

/** Lines of a PCI Express capability: the title first, the details after it. */
export function formatExpress(cap: ExpressCapability, context: ExpressFormatContext): string[] {
  return [
    title(cap),
    ...deviceLines(cap),
    ...(cap.link === undefined ? [] : linkLines(cap, cap.link)),
    ...(cap.slot === undefined ? [] : slotLines(cap.slot)),
    ...(cap.root === undefined ? [] : rootLines(cap.root)),
    ...(cap.device2 === undefined ? [] : device2Lines(cap, cap.device2, context)),
    ...(cap.link2 === undefined ? [] : link2Lines(cap, cap.link2, context)),
  ];
}

function title(cap: ExpressCapability): string {
  const code = cap.capabilities.deviceType;
  const type = cap.deviceType === "reserved" ? `Unknown type ${code}` : TYPE_NAMES[cap.deviceType];
  const hasSlotField = is(cap, "rootPort", "downstreamPort", "pciToExpressBridge");
  const slot = hasSlotField ? ` (Slot${flag(cap.capabilities.slotImplemented)})` : "";
  return `Express (v${cap.structureVersion}) ${type}${slot}, MSI ${
    hex(cap.capabilities.interruptMessageNumber, 2)
  }`;
}

function is(cap: ExpressCapability, ...types: ExpressType[]): boolean {
  return types.includes(cap.deviceType);
}

function deviceLines(cap: ExpressCapability): string[] {
  const c = cap.deviceCapabilities, control = cap.deviceControl;
  const isEndpoint = is(cap, "endpoint", "legacyEndpoint");
  const phantom = (1 << c.phantomFunctions) - 1;
  let first = `\t\tDevCap:\tMaxPayload ${cap.maxPayloadSupportedBytes} bytes, PhantFunc ${phantom}`;
  if (isEndpoint) {
    first += `, Latency L0s ${L0S_LATENCIES[c.l0sAcceptableLatency]}, L1 ${
      L1_LATENCIES[c.l1AcceptableLatency]
    }`;
  }
  const flags: (keyof typeof regs.DEVICE_CAPABILITIES.fields)[] = ["extendedTag"];
  if (isEndpoint || is(cap, "upstreamPort", "expressToPciBridge")) {
    flags.push("attentionButton", "attentionIndicator", "powerIndicator");
  }
  flags.push("roleBasedErrorReporting");
  if (isEndpoint || is(cap, "rootComplexEndpoint")) flags.push("functionLevelReset");
  let second = `\t\t\t${formatFlags(regs.DEVICE_CAPABILITIES, c, flags)}`;
  if (is(cap, "endpoint", "upstreamPort", "expressToPciBridge")) {
    second += ` SlotPowerLimit ${powerText(c.slotPowerLimitValue, c.slotPowerLimitScale)}`;
  }
  let fourth = `\t\t\t${
    formatFlags(regs.DEVICE_CONTROL, control, [
      "relaxedOrdering",
      "extendedTag",
      "phantomFunctions",
      "auxiliaryPower",
      "noSnoop",
    ])
  }`;
  // Bit 15 of Device Control is Bridge Configuration Retry Enable on such a bridge, and FLR on an endpoint.
  if (is(cap, "expressToPciBridge")) fourth += ` BrConfRtry${flag((control.raw & 0x8000) !== 0)}`;
  if ((isEndpoint || is(cap, "rootComplexEndpoint")) && c.functionLevelReset) {
    fourth += ` FLReset${flag(control.initiateFunctionLevelReset)}`;
  }
  return [
    first,
    second,
    `\t\tDevCtl:\t${
      formatFlags(regs.DEVICE_CONTROL, control, [
        "correctableErrorReporting",
        "nonFatalErrorReporting",
        "fatalErrorReporting",
        "unsupportedRequestReporting",
      ])
    }`,
    fourth,
    `\t\t\tMaxPayload ${cap.maxPayloadBytes} bytes, MaxReadReq ${cap.maxReadRequestBytes} bytes`,
    `\t\tDevSta:\t${
      formatFlags(regs.DEVICE_STATUS, cap.deviceStatus, [
        "correctableError",
        "nonFatalError",
        "fatalError",
        "unsupportedRequest",
        "auxiliaryPower",
        "transactionsPending",
      ])
    }`,
  ];
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

function linkLines(cap: ExpressCapability, link: ExpressLink): string[] {
  const c = link.capabilities, control = link.control, status = link.status;
  const exits: string[] = [];
  if (c.aspmSupport & 1) exits.push(`L0s ${L0S_LATENCIES[c.l0sExitLatency]}`);
  if (c.aspmSupport & 2) exits.push(`L1 ${L1_LATENCIES[c.l1ExitLatency]}`);
  const exit = exits.length === 0 ? "" : `, Exit Latency ${exits.join(", ")}`;
  const rcb = is(cap, "rootPort", "endpoint", "legacyEndpoint", "expressToPciBridge")
    ? ` RCB ${control.readCompletionBoundary128 ? 128 : 64} bytes,`
    : "";
  const speed = `${speedText(status.speed)}${comparison(cap, status.speed, c.maxSpeed)}`;
  const width = `x${status.width}${comparison(cap, status.width, c.maxWidth)}`;
  return [
    `\t\tLnkCap:\tPort #${c.portNumber}, Speed ${speedText(c.maxSpeed)}, Width x${c.maxWidth}, ` +
    `ASPM ${ASPM_SUPPORT[c.aspmSupport]}${exit}`,
    `\t\t\t${
      formatFlags(regs.LINK_CAPABILITIES, c, [
        "clockPowerManagement",
        "surpriseDown",
        "linkActiveReporting",
        "bandwidthNotification",
        "aspmOptionalityCompliance",
      ])
    }`,
    `\t\tLnkCtl:\tASPM ${ASPM_CONTROL[control.aspmControl]};${rcb} ${
      formatFlags(regs.LINK_CONTROL, control, ["linkDisable", "commonClock"])
    }`,
    `\t\t\t${
      formatFlags(regs.LINK_CONTROL, control, [
        "extendedSynch",
        "clockPowerManagement",
        "autonomousWidthDisable",
        "bandwidthInterrupt",
        "autonomousBandwidthInterrupt",
      ])
    }`,
    `\t\tLnkSta:\tSpeed ${speed}, Width ${width}`,
    `\t\t\t${formatFlags(regs.LINK_STATUS, status)}`,
  ];
}

function slotLines({ capabilities: c, control, status }: ExpressSlot): string[] {
  return [
    `\t\tSltCap:\t${
      formatFlags(regs.SLOT_CAPABILITIES, c, [
        "attentionButton",
        "powerController",
        "mrlSensor",
        "attentionIndicator",
        "powerIndicator",
        "hotPlugCapable",
        "hotPlugSurprise",
      ])
    }`,
    `\t\t\tSlot #${c.slotNumber}, PowerLimit ${powerText(c.powerLimitValue, c.powerLimitScale)}; ${
      formatFlags(regs.SLOT_CAPABILITIES, c, ["interlock", "noCommandCompleted"])
    }`,
    `\t\tSltCtl:\tEnable: ${
      formatFlags(regs.SLOT_CONTROL, control, [
        "attentionButtonEnable",
        "powerFaultEnable",
        "mrlSensorEnable",
        "presenceDetectEnable",
        "commandCompletedEnable",
        "hotPlugInterruptEnable",
        "linkStateEnable",
      ])
    }`,
    `\t\t\tControl: AttnInd ${INDICATORS[control.attentionIndicator]}, ` +
    `PwrInd ${INDICATORS[control.powerIndicator]}, ${
      formatFlags(regs.SLOT_CONTROL, control, ["powerControllerOff", "interlock"])
    }`,
    `\t\tSltSta:\tStatus: ${
      formatFlags(regs.SLOT_STATUS, status, [
        "attentionButton",
        "powerFault",
        "mrlSensorState",
        "commandCompleted",
        "presenceDetect",
        "interlock",
      ])
    }`,
    `\t\t\tChanged: ${
      formatFlags(regs.SLOT_STATUS, status, ["mrlSensorChanged", "presenceDetectChanged", "linkStateChanged"])
    }`,
  ];
}

function rootLines({ capabilities, control, status }: ExpressRoot): string[] {
  return [
    `\t\tRootCap: ${formatFlags(regs.ROOT_CAPABILITIES, capabilities)}`,
    `\t\tRootCtl: ${formatFlags(regs.ROOT_CONTROL, control)}`,
    `\t\tRootSta: PME ReqID ${hex(status.pmeRequesterId, 4)}, ${formatFlags(regs.ROOT_STATUS, status)}`,
  ];
}

function device2Lines(
  cap: ExpressCapability,
  device2: ExpressDevice2,
  context: ExpressFormatContext,
): string[] {
  const c = device2.capabilities, control = device2.control;
  const isPort = is(cap, "rootPort", "downstreamPort");
  const isRouter = is(cap, "rootPort", "upstreamPort", "downstreamPort");
  const prefixes = c.endToEndTlpPrefix ? `, MaxEETLPPrefixes ${c.maxEndToEndTlpPrefixes || 4}` : "";
  let fourth = `\t\t\t ${formatFlags(regs.DEVICE_CAPABILITIES_2, c, ["frs"])}`;
  if (is(cap, "rootPort")) fourth += ` LN System CLS ${LN_CACHE_LINES[c.lnSystemCls]},`;
  if (is(cap, "rootPort", "endpoint")) {
    // Bit 0: TPH, bit 1: extended TPH. Extended without plain is a reserved combination.
    fourth += c.tphCompleter === 2
      ? " "
      : ` TPHComp${flag(c.tphCompleter !== 0)} ExtTPHComp${flag(c.tphCompleter === 3)}`;
  }
  if (isPort) fourth += ` ARIFwd${flag(c.ariForwarding)}`;
  const lines = [
    `\t\tDevCap2: Completion Timeout: ${TIMEOUT_RANGES[c.completionTimeoutRanges] ?? "Unknown"}, ${
      formatFlags(regs.DEVICE_CAPABILITIES_2, c, [
        "completionTimeoutDisable",
        "noRoEnabledPrPrPassing",
        "ltr",
      ])
    }`,
    `\t\t\t ${formatFlags(regs.DEVICE_CAPABILITIES_2, c, ["tag10BitCompleter", "tag10BitRequester"])} OBFF ${
      OBFF_SUPPORT[c.obff]
    }, ${formatFlags(regs.DEVICE_CAPABILITIES_2, c, ["extendedFmt", "endToEndTlpPrefix"])}${prefixes}`,
    `\t\t\t EmergencyPowerReduction ${POWER_REDUCTION[c.emergencyPowerReduction]}, ` +
    `EmergencyPowerReductionInit${flag(c.emergencyPowerReductionInit)}`,
    fourth,
  ];
  if (isRouter || context.hasMemoryBar) {
    const flags: (keyof typeof regs.DEVICE_CAPABILITIES_2.fields)[] = [];
    if (isRouter) flags.push("atomicOpRouting");
    if (is(cap, "rootPort") || context.hasMemoryBar) flags.push("atomicOp32", "atomicOp64", "cas128");
    lines.push(`\t\t\t AtomicOpsCap: ${formatFlags(regs.DEVICE_CAPABILITIES_2, c, flags)}`);
  }
  lines.push(
    `\t\tDevCtl2: Completion Timeout: ${TIMEOUTS[control.completionTimeout] ?? "Unknown"}, ${
      formatFlags(regs.DEVICE_CONTROL_2, control, ["completionTimeoutDisable", "ltr", "tag10BitRequester"])
    } OBFF ${OBFF_CONTROL[control.obff]},${isPort ? ` ARIFwd${flag(control.ariForwarding)}` : ""}`,
  );
  const atomics: (keyof typeof regs.DEVICE_CONTROL_2.fields)[] = [];
  if (is(cap, "rootPort", "endpoint", "rootComplexEndpoint", "legacyEndpoint")) {
    atomics.push("atomicOpRequester");
  }
  if (isRouter) atomics.push("atomicOpEgressBlocking");
  if (atomics.length > 0) {
    lines.push(`\t\t\t AtomicOpsCtl: ${formatFlags(regs.DEVICE_CONTROL_2, control, atomics)}`);
  }
  return lines;
}

function supportedSpeedsText(vector: number): string {
  // Every port supports 2.5 GT/s and may not leave out a rate below its best one.
  const best = Math.floor(Math.log2(vector)) + 1;
  if (vector === 0) return "Unknown";
  return best === 1 ? "2.5GT/s" : `2.5-${speedText(best)}`;
}

function link2Lines(cap: ExpressCapability, link2: ExpressLink2, context: ExpressFormatContext): string[] {
  const c = link2.capabilities, control = link2.control, status = link2.status;
  const lines: string[] = [];
  if (!(is(cap, "endpoint", "legacyEndpoint") && context.isSecondaryFunction)) {
    if (c.raw !== 0) {
      lines.push(
        `\t\tLnkCap2: Supported Link Speeds: ${supportedSpeedsText(c.supportedSpeeds)}, ${
          formatFlags(regs.LINK_CAPABILITIES_2, c)
        }`,
      );
    }
    const margin = control.transmitMargin;
    const marginText = margin === 0
      ? "Normal Operating Range"
      : margin === 1
      ? "800-1200mV(full-swing)/400-700mV(half-swing)"
      : margin <= 5
      ? "200-400mV(full-swing)/100-200mV(half-swing)"
      : "Unknown";
    const target = control.targetSpeed === 0 ? "2.5GT/s" : speedText(control.targetSpeed).replace(/^u/, "U");
    const deEmphasis = is(cap, "downstreamPort")
      ? `, Selectable De-emphasis: ${control.selectableDeEmphasis ? "-3.5dB" : "-6dB"}`
      : "";
    lines.push(
      `\t\tLnkCtl2: Target Link Speed: ${target}, ${
        formatFlags(regs.LINK_CONTROL_2, control, ["enterCompliance", "autonomousSpeedDisable"])
      }${deEmphasis}`,
      `\t\t\t Transmit Margin: ${marginText}, ${
        formatFlags(regs.LINK_CONTROL_2, control, ["enterModifiedCompliance", "complianceSos"])
      }`,
      `\t\t\t Compliance Preset/De-emphasis: ${PRESETS[control.compliancePreset] ?? "Unknown"}`,
    );
  }
  lines.push(
    `\t\tLnkSta2: Current De-emphasis Level: ${status.currentDeEmphasis ? "-3.5dB" : "-6dB"}, ${
      formatFlags(regs.LINK_STATUS_2, status, ["equalizationComplete", "equalizationPhase1"])
    }`,
    `\t\t\t ${
      formatFlags(regs.LINK_STATUS_2, status, [
        "equalizationPhase2",
        "equalizationPhase3",
        "linkEqualizationRequest",
      ])
    }`,
    `\t\t\t ${formatFlags(regs.LINK_STATUS_2, status, ["retimer", "twoRetimers"])} CrosslinkRes: ${
      CROSSLINKS[status.crosslinkResolution]
    }`,
  );
  return lines;
}
