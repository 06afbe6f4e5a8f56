/**
 * Permissions of regions as text.
 *
 * @module
 */
import { ISM_PERM } from "../../lib/virtio/spec/ism.ts";

const NAMED = [
  ["read", ISM_PERM.READ],
  ["write", ISM_PERM.WRITE],
  ["attach", ISM_PERM.ATTACH],
  ["manage", ISM_PERM.MANAGE],
] as const;

/** `read,write,attach,manage` as far as the bits are set; `none`. */
export function permissionsText(bits: number): string {
  return permissionNames(bits).join(",") || "none";
}

/** The same as a list, which may be empty. */
export function permissionNames(bits: number): string[] {
  return NAMED.filter(([, bit]) => (bits & bit) !== 0).map(([name]) => name);
}

/** `ISM_PERM` bits of `read,write,attach,manage`, in any order, or `none`; undefined when it is something else. */
export function parsePermissions(text: string): number | undefined {
  if (text === "none") return 0;
  let bits = 0;
  for (const word of text.split(",")) {
    const named = NAMED.find(([name]) => name === word);
    if (named === undefined) return undefined;
    bits |= named[1];
  }
  return bits;
}
