/**
 * virtio-ism in an emulated host.
 *
 * @module
 */
import * as v from "valibot";
import { ISM_DEVICE } from "../../../virtio/spec/ism.ts";
import type { DeviceKind, KindDevices, ModelPlace } from "../../device_kind.ts";
import { powerOfTwo, text, TopologyError, whole } from "../../topology_fields.ts";
import { ISM_FAMILY } from "../lies/ism.ts";
import { IsmDomains } from "./domain.ts";
import { ISM_DEFAULTS, type IsmFields, IsmModel } from "./model.ts";
import { type IsmDomainState, reportDomain } from "./report.ts";

/** No area is larger: a BAR of it must find a place on the bus. */
const AREA_BYTES_MAX = 2 ** 36;

/** The domains of a machine. */
class IsmDevices implements KindDevices<IsmFields> {
  readonly #domains = new IsmDomains();
  readonly reports = { ism: (): IsmDomainState[] => this.#domains.list.map(reportDomain) };

  model(own: IsmFields, place: ModelPlace): IsmModel {
    return new IsmModel(this.#domains, { ...own, ...place });
  }
}

/** Its record. */
export const ISM_KIND: DeviceKind<IsmFields> = {
  name: "virtio-ism",
  type: ISM_DEVICE,
  fields: {
    domain: v.optional(text(/^[A-Za-z0-9_.-]{1,32}$/, "a name of 1 to 32 letters, digits, _ . or -")),
    chunkSize: v.optional(powerOfTwo(4096, 2 ** 30)),
    chunks: v.optional(whole(1, 65536)),
    notifySize: v.optional(whole(1, 4096)),
    memory: v.optional(whole(0, Number.MAX_SAFE_INTEGER)),
  },
  lies: ISM_FAMILY,
  check(own, { at }) {
    const { chunkSize = ISM_DEFAULTS.chunkSize, chunks = ISM_DEFAULTS.chunks } = own;
    if (chunkSize * chunks <= AREA_BYTES_MAX) return;
    throw new TopologyError(`${at}.chunks`, `the area would have more than ${AREA_BYTES_MAX} bytes`);
  },
  /** Functions of one domain share pages, so they must agree on chunks and memory. */
  together(functions) {
    for (const { own, at } of functions) {
      const { domain = ISM_DEFAULTS.domain } = own;
      const first = functions.find((one) => (one.own.domain ?? ISM_DEFAULTS.domain) === domain)!;
      for (const field of ["chunkSize", "memory"] as const) {
        if (own[field] === first.own[field]) continue;
        throw new TopologyError(
          `${at}.${field}`,
          `${own[field] ?? "the default"} is not what ${first.at} of the same domain has, ${
            first.own[field] ?? "the default"
          }`,
        );
      }
    }
  },
  devices: () => new IsmDevices(),
};
