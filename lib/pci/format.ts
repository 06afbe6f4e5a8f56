/**
 * A function as `lspci -vv` prints it, so that an engineer reads Ringside's output as fluently as the tool they
 * know. The text is that of pciutils 3.9; where this library decodes more (virtio shared memory, faults in a
 * list), it follows the same pattern.
 *
 * @module
 */

import { typedCall } from "../errors/doors.ts";
import { BUILTIN_NAMES } from "./builtin_names.ts";
import { type CapabilityFinding, findCapability, walkCapabilities } from "./capabilities.ts";
import type { Capability, OtherCapability } from "./capability/all.ts";
import { capabilityName } from "./capability/names.ts";
import type { ConfigSpace } from "./config_space.ts";
import type { PciNames } from "./ids.ts";
import { EXTENDED_FORMATS } from "./format/extended.ts";
import { formatHeaderRegisters, formatHeaderType, formatRegions, formatTitle } from "./format/header.ts";
import type { CapabilityFormats, FormatContext, FormatOptions } from "./format/options.ts";
import { STANDARD_FORMATS } from "./format/standard.ts";
import { declaredLines } from "./format/declared.ts";
import { hex } from "./hex.ts";

/** Lines of a function, without line ends; details are indented by tabs. */
export function formatFunction(config: ConfigSpace, options: FormatOptions = {}): string[] {
  return typedCall("formatFunction", [config, options], () => functionLines(config, options));
}

function functionLines(config: ConfigSpace, options: FormatOptions): string[] {
  const names = options.names ?? BUILTIN_NAMES;
  const driver = options.host?.driver;
  return [
    formatTitle(config, names, options.address),
    ...(config.isPresent ? contentLines(config, names, options) : [GONE]),
    ...(driver === undefined ? [] : [`\tKernel driver in use: ${driver}`]),
  ];
}

const GONE = "\t!!! Gone: it reads as all ones. It was removed, has no power, or the link to it is down";

function contentLines(config: ConfigSpace, names: PciNames, options: FormatOptions): string[] {
  if (config.headerType > 2) return formatHeaderType(config);
  const { capabilities, findings } = walkCapabilities(config);
  const context = { config, capabilities, names, options };
  const subsystem = findCapability(capabilities, "subsystem-id")?.subsystem;
  return [
    ...formatHeaderRegisters(config, names, options.host ?? {}, subsystem),
    ...formatRegions(config, options.barSizes ?? [], options.romBytes),
    ...capabilities.flatMap((cap) => formatCapability(cap, context)),
    ...findings.flatMap(formatFinding),
  ];
}

function formatCapability(cap: Capability, context: FormatContext): string[] {
  // The table holds for each kind what takes a capability of this kind, which the compiler cannot follow.
  const format = FORMATS[cap.kind] as CapabilityFormats["other"];
  const [title = "", ...details] = format?.(cap as OtherCapability, context) ?? declaredLines(cap);
  const place = cap.list === "standard" ? hex(cap.offset, 2) : `${hex(cap.offset, 3)} v${cap.version}`;
  return [`\tCapabilities: [${place}] ${title}`, ...details];
}

const FORMATS: CapabilityFormats = {
  ...STANDARD_FORMATS,
  ...EXTENDED_FORMATS,
  null: () => ["Null"],
  cut: ({ name, neededBytes, data }) => [
    `${name} <cut: ${data.length} of its ${neededBytes} bytes are readable>`,
  ],
  malformed: ({ name, reason }) => [`${name} <malformed: ${reason}>`],
  other: (cap, { config }) => [otherTitle(cap, config)],
};

function otherTitle(cap: OtherCapability, config: ConfigSpace): string {
  if (cap.list === "standard" && cap.id === HOT_PLUG_ID) return cap.name;
  if (capabilityName(cap.list, cap.id) !== undefined) return `${cap.name} <?>`;
  if (cap.list === "extended") return `Extended ${cap.name}`;
  const flags = cap.offset + 4 <= config.sizeBytes ? hex(config.read16(cap.offset + 2), 4) : "????";
  return `${cap.name} [${flags}]`;
}

/** All that it says is that it is there. */
const HOT_PLUG_ID = 0x0c;

/** Findings in the words of `lspci`, with the place added. Capabilities that are malformed or cut already have a line. */
function formatFinding(finding: CapabilityFinding): string[] {
  if (finding.problem === "malformed" || finding.problem === "cut") return [];
  const words = finding.problem === "cycle"
    ? "<chain looped>"
    : finding.problem === "out-of-range"
    ? "<chain broken>"
    : finding.problem === "unavailable"
    ? "<access denied>"
    : `<${finding.problem}>`;
  return [`\tCapabilities: ${words} at ${hex(finding.offset, 2)}: ${finding.message}`];
}
