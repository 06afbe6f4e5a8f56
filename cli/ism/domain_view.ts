/**
 * A communication domain as far as it can be seen from here.
 *
 * @module
 */
import type { VirtioIsm } from "../../drivers/ism/virtio_ism.ts";
import type { IsmDomainState } from "../../lib/emulation/mod.ts";
import { UnsupportedError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { hostRecords } from "../host_report.ts";

/** What an emulated host says of the domain of a function, whoever drives it; undefined on another host. @throws UnsupportedError */
export function domainOfHost(host: Host, address: string): IsmDomainState | undefined {
  const domains = hostRecords<IsmDomainState>(host, "ism");
  if (domains === undefined) return undefined;
  const found = domains.find(({ functions }) => functions.some((one) => one.function === address));
  if (found !== undefined) return found;
  throw new UnsupportedError(`${address} is no virtio-ism function of this host`, {
    hint: domains.length === 0
      ? "it has none"
      : `it has ${domains.flatMap(({ functions }) => functions.map((one) => one.function)).join(", ")}`,
  });
}

/** What a function that was just opened knows: itself. Its device tells neither of other functions nor of regions whose tokens it is not asked for. */
export function domainOfFunction(ism: VirtioIsm): IsmDomainState {
  const { info } = ism;
  return {
    domain: "",
    cdid: info.cdidText,
    chunkSize: info.chunkSizeBytes,
    memory: 0,
    memoryUsed: 0,
    functions: [{
      function: ism.transport.name,
      devid: `${info.devid}`,
      chunks: info.maxChunks,
      chunksUsed: 0,
      eventsWaiting: 0,
    }],
    regions: [],
  };
}

/** What a device may do with a region, and does. */
export interface Standing {
  /** Some of `rwam`. */
  readonly permissions: string;
  /** How it is attached: some of `rw`; undefined when it is not. */
  readonly attached: string | undefined;
  readonly allocator: boolean;
}

/** Of one device towards one region. */
export function standingOf(region: IsmDomainState["regions"][number], devid: string): Standing {
  return {
    permissions: region.permissions.find((one) => one.devid === devid)?.permissions ??
      region.defaultPermissions,
    attached: region.attached.find((one) => one.devid === devid)?.rights,
    allocator: region.allocator === devid,
  };
}
