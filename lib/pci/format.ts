/**
 * A function as `lspci -vv` prints it, so that an engineer reads Ringside's output as fluently as the tool they
 * know. The text is that of pciutils 3.9; where this library decodes more (virtio shared memory, faults in a
 * list), it follows the same pattern.
 *
 * @module
 */

import type { PciAddress } from "./address.ts";
import { BUILTIN_NAMES } from "./builtin_names.ts";
import { type Capability, type CapabilityFinding, findCapability, walkCapabilities } from "./capabilities.ts";
import { capabilityName } from "./capability/id.ts";
import type { ConfigSpace } from "./config_space.ts";
import { formatExpress } from "./format/express.ts";
import * as extended from "./format/extended.ts";
import {
  formatHeaderRegisters,
  formatRegions,
  formatTitle,
  type HostFacts,
  subsystemText,
} from "./format/header.ts";
import * as standard from "./format/standard.ts";
import { hex } from "./format/text.ts";
import type { PciNames } from "./ids.ts";

/** What a function's text needs besides its configuration space. All of it is optional. */
export interface FormatOptions {
  /** Address, for the first line. The domain is left out when it is 0, as `lspci` does. */
  readonly address?: PciAddress;
  /** Names. Default: the built-in table. */
  readonly names?: PciNames;
  /** Size of each BAR in bytes, by index. */
  readonly barSizes?: readonly (number | undefined)[];
  /** Size of the expansion ROM in bytes. */
  readonly romBytes?: number;
  /** Size of each VF BAR (one VF's share) in bytes, by index. */
  readonly vfBarSizes?: readonly (number | undefined)[];
  /** What the operating system knows. */
  readonly host?: HostFacts;
}

/** Lines of a function, without line ends; details are indented by tabs. */
export function formatFunction(config: ConfigSpace, options: FormatOptions = {}): string[] {
  const names = options.names ?? BUILTIN_NAMES;
  const title = formatTitle(config, names, options.address);
  if (config.headerType > 2) return [title, `\t!!! Unknown header type ${hex(config.headerType, 2)}`];
  const { capabilities, findings } = walkCapabilities(config);
  return [
    title,
    ...formatHeaderRegisters(
      config,
      names,
      options.host ?? {},
      findCapability(capabilities, "subsystem-id")?.subsystem,
    ),
    ...formatRegions(config, options.barSizes ?? [], options.romBytes),
    ...capabilities.flatMap((cap) => formatCapability(cap, config, capabilities, options)),
    ...findings.flatMap(formatFinding),
    ...(options.host?.driver === undefined ? [] : [`\tKernel driver in use: ${options.host.driver}`]),
  ];
}

function formatCapability(
  cap: Capability,
  config: ConfigSpace,
  all: readonly Capability[],
  options: FormatOptions,
): string[] {
  const [title = "", ...details] = capabilityLines(cap, config, all, options);
  const place = cap.list === "standard" ? hex(cap.offset, 2) : `${hex(cap.offset, 3)} v${cap.version}`;
  return [`\tCapabilities: [${place}] ${title}`, ...details];
}

function capabilityLines(
  cap: Capability,
  config: ConfigSpace,
  all: readonly Capability[],
  options: FormatOptions,
): string[] {
  switch (cap.kind) {
    case "power-management":
      return standard.formatPowerManagement(cap);
    case "vital-product-data":
      return ["Vital Product Data"];
    case "msi":
      return standard.formatMsi(cap);
    case "msi-x":
      return standard.formatMsix(cap);
    case "vendor-specific":
      return [`Vendor Specific Information: Len=${hex(cap.lengthBytes, 2)} <?>`];
    case "virtio":
      return standard.formatVirtio(cap);
    case "subsystem-id": {
      const { vendorId, deviceId } = cap.subsystem;
      return [`Subsystem: ${subsystemText(config, options.names ?? BUILTIN_NAMES, vendorId, deviceId)}`];
    }
    case "express":
      return formatExpress(cap, {
        hasMemoryBar: config.bars(options.barSizes).some((bar) => bar.space === "memory"),
        isSecondaryFunction: options.address !== undefined && options.address.devfn !== 0,
      });
    case "advanced-features":
      return standard.formatAdvancedFeatures(cap);
    case "enhanced-allocation":
      return standard.formatEnhancedAllocation(cap);
    case "advanced-error-reporting":
      return extended.formatAdvancedErrorReporting(cap, all.some(isRoot));
    case "virtual-channel":
      return extended.formatVirtualChannel(cap);
    case "device-serial-number":
      return [`Device Serial Number ${cap.text}`];
    case "extended-vendor-specific":
      return [
        `Vendor Specific Information: ID=${hex(cap.vsecId, 4)} Rev=${cap.revision} Len=${
          hex(cap.lengthBytes, 3)
        } <?>`,
      ];
    case "designated-vendor-specific":
      return [
        `Designated Vendor-Specific: Vendor=${hex(cap.dvsecVendorId, 4)} ID=${hex(cap.dvsecId, 4)} ` +
        `Rev=${cap.revision} Len=${cap.lengthBytes} <?>`,
      ];
    case "access-control":
      return extended.formatAccessControl(cap);
    case "alternative-routing-id":
      return extended.formatAlternativeRoutingId(cap);
    case "address-translation":
      return extended.formatAddressTranslation(cap);
    case "sr-iov":
      return extended.formatSriov(cap, options.vfBarSizes ?? []);
    case "page-request":
      return extended.formatPageRequest(cap);
    case "resizable-bar":
      return extended.formatResizableBar(cap);
    case "tph-requester":
      return extended.formatTphRequester(cap);
    case "latency-tolerance":
      return [
        "Latency Tolerance Reporting",
        `\t\tMax snoop latency: ${cap.maxSnoopLatencyNs}ns`,
        `\t\tMax no snoop latency: ${cap.maxNoSnoopLatencyNs}ns`,
      ];
    case "secondary-express":
      return extended.formatSecondaryExpress(cap);
    case "pasid":
      return extended.formatPasid(cap);
    case "downstream-port-containment":
      return extended.formatDownstreamPortContainment(cap);
    case "l1-substates":
      return extended.formatL1Substates(cap);
    case "precision-time-measurement":
      return extended.formatPrecisionTimeMeasurement(cap);
    case "null":
      return ["Null"];
    case "malformed":
      return [`${cap.name} <malformed: ${cap.reason}>`];
    case "other":
      return [otherTitle(cap, config)];
  }
}

function isRoot(cap: Capability): boolean {
  return cap.kind === "express" && cap.root !== undefined;
}

function otherTitle(cap: Extract<Capability, { kind: "other" }>, config: ConfigSpace): string {
  if (capabilityName(cap.list, cap.id) !== undefined) return `${cap.name} <?>`;
  if (cap.list === "extended") return `Extended Capability ID ${cap.id === 0 ? "0" : `0x${hex(cap.id, 2)}`}`;
  const flags = cap.offset + 4 <= config.sizeBytes ? hex(config.read16(cap.offset + 2), 4) : "????";
  return `#${hex(cap.id, 2)} [${flags}]`;
}

/** Findings in the words of `lspci`, with the place added. Malformed capabilities already have a line. */
function formatFinding(finding: CapabilityFinding): string[] {
  if (finding.problem === "malformed") return [];
  const words = finding.problem === "cycle"
    ? "<chain looped>"
    : finding.problem === "out-of-range"
    ? "<chain broken>"
    : finding.problem === "unavailable"
    ? "<access denied>"
    : `<${finding.problem}>`;
  return [`\tCapabilities: ${words} at ${hex(finding.offset, 2)}: ${finding.message}`];
}
