/**
 * VF tokens as vfio-pci keeps them (Linux: vfio_pci_validate_vf_token and vfio_pci_core_feature_token of vfio_pci_core.c).
 *
 * There a PF has one from when it is bound, at random, so that its VFs open for nobody before it is set. Here they open without one until then: other
 * clients of vfio-user have no way to show any.
 *
 * @module
 */
import { errnoNumber, SyscallError } from "../../ffi/mod.ts";

/** That of a PF, for as long as vfio-pci has the PF. */
export class VfToken {
  readonly #pf: string;
  #uuid: Uint8Array | null = null;

  /** Not set yet. @param pf its address, for messages */
  constructor(pf: string) {
    this.#pf = pf;
  }

  /** Sets it, whoever has VFs open. */
  set(uuid: Uint8Array): void {
    this.#uuid = uuid.slice();
  }

  /** A user opens a VF. @param shown what it shows @throws SyscallError EACCES */
  admitToVf(vf: string, shown: Uint8Array | undefined): void {
    if (this.#uuid === null ? shown === undefined : shown !== undefined && same(shown, this.#uuid)) return;
    const why = shown === undefined ? `that of ${this.#pf} is needed` : `it is not that of ${this.#pf}`;
    throw refused("EACCES", vf, why);
  }

  /** A user opens the PF, which sets the token unless VFs are in use. @param vfsInUse whether any is @throws SyscallError EACCES */
  admitToPf(shown: Uint8Array | undefined, vfsInUse: boolean): void {
    if (vfsInUse) this.admitToVf(this.#pf, shown);
    else if (shown !== undefined) this.set(shown);
  }
}

/** A user opens a function that has to do with no token. @throws SyscallError EINVAL when it shows one */
export function admitWithoutToken(address: string, shown: Uint8Array | undefined): void {
  if (shown === undefined) return;
  throw refused("EINVAL", address, "it is no PF with SR-IOV on vfio-pci, nor a VF of one");
}

function refused(code: "EACCES" | "EINVAL", address: string, why: string): SyscallError {
  return new SyscallError("VF token", address, errnoNumber[code]!, { hint: why });
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}
