/** True inside a guest of the rig. Asks for no permission: without the right to read it, the answer is no. */
export function inGuest(): boolean {
  return variable("RINGSIDE_GUEST") === "1";
}

/**
 * Whether VFIO character devices are to be expected: `undefined` when the caller of the rig did not say, and a test
 * should then look for the device node.
 */
export function guestHasCdev(): boolean | undefined {
  const value = variable("RINGSIDE_GUEST_CDEV");
  return value === "1" ? true : value === "0" ? false : undefined;
}

function variable(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) : undefined;
}
