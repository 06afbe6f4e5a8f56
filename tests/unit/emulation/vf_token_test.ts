/** VF tokens as vfio-pci keeps them: vfio_pci_validate_vf_token, case by case. */
import { assertEquals, assertThrows } from "@std/assert";
import { isErrno } from "../../../ffi/mod.ts";
import { admitWithoutToken, VfToken } from "../../../lib/emulation/vf_token.ts";

const [PF, VF] = ["0000:01:00.0", "0000:01:00.1"];
const A = new Uint8Array(16).fill(0xaa), B = new Uint8Array(16).fill(0xbb);

function refused(code: string, act: () => void): void {
  const error = assertThrows(act);
  assertEquals(isErrno(error, code), true, `${error}`);
}

Deno.test("a VF of a PF whose token is set: no token and another one are EACCES", () => {
  const token = new VfToken(PF);
  token.set(A);
  token.admitToVf(VF, A.slice());
  refused("EACCES", () => token.admitToVf(VF, undefined));
  refused("EACCES", () => token.admitToVf(VF, B));
  refused("EACCES", () => token.admitToVf(VF, A.subarray(0, 15)));
  token.set(B);
  refused("EACCES", () => token.admitToVf(VF, A));
  token.admitToVf(VF, B);
});

Deno.test("before it is set, a VF opens without a token, and with none that is shown", () => {
  const token = new VfToken(PF);
  token.admitToVf(VF, undefined);
  refused("EACCES", () => token.admitToVf(VF, A));
});

Deno.test("opening the PF sets the token while no VF is in use; then it must be shown", () => {
  const token = new VfToken(PF);
  token.admitToPf(A, false);
  token.admitToVf(VF, A);
  // Without one it opens, and the token stays.
  token.admitToPf(undefined, false);
  token.admitToVf(VF, A);
  token.admitToPf(A, true);
  refused("EACCES", () => token.admitToPf(undefined, true));
  refused("EACCES", () => token.admitToPf(B, true));
  token.admitToPf(B, false);
  refused("EACCES", () => token.admitToVf(VF, A));
});

Deno.test("the token is a copy", () => {
  const mine = A.slice();
  const token = new VfToken(PF);
  token.set(mine);
  mine.fill(0);
  token.admitToVf(VF, A);
});

Deno.test("a function that is neither a PF nor a VF of vfio-pci takes none: EINVAL", () => {
  admitWithoutToken(VF, undefined);
  refused("EINVAL", () => admitWithoutToken(VF, A));
});
