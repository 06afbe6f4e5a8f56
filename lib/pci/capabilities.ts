/**
 * The two capability lists of a function, with all that is known of them decoded.
 *
 * @module
 */

import { typedCall } from "../errors/doors.ts";
import { CAPABILITIES } from "./capability/all.ts";
import { type CapabilityList, walk } from "./capability_walk.ts";
import type { ConfigSpace } from "./config_space.ts";

export {
  type CapabilityFinding,
  type CapabilityList,
  findCapabilities,
  findCapability,
} from "./capability_walk.ts";

/** How to walk. */
export interface WalkOptions {
  /** Throw at the first finding other than `unavailable` and `cut`. Default `false`: report it and carry on as far as is safe. */
  readonly strict?: boolean;
}

/**
 * Walks both capability lists.
 *
 * In the lenient mode, which is the default, it never throws and always ends, whatever the bytes.
 *
 * @throws {DeviceError} in the strict mode, naming the offset, when a list is not as the standard has it
 */
export function walkCapabilities(config: ConfigSpace, options: WalkOptions = {}): CapabilityList {
  return typedCall(
    "walkCapabilities",
    [config, options],
    () => walk(config, options.strict ?? false, CAPABILITIES),
  );
}
