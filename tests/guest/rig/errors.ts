/** Base of every error the guest rig throws, so that a caller can tell them from bugs. */
export class RigError extends Error {
  override name = "RigError";
}

/** The rig has not been set up, or what was set up is incomplete. */
export class NotSetUpError extends RigError {
  override name = "NotSetUpError";

  constructor(missing: string) {
    super(`guest rig is not set up (run: deno task guest:setup); missing: ${missing}`);
  }
}

/** A step of the set-up could not be done on this machine. */
export class SetupError extends RigError {
  override name = "SetupError";
}

/** A helper program (apt-get, dpkg-deb, tar …) failed. */
export class CommandError extends RigError {
  override name = "CommandError";

  constructor(readonly argv: readonly string[], readonly code: number, readonly output: string) {
    super(`\`${argv.join(" ")}\` exited with status ${code}:\n${output.trimEnd()}`);
  }
}

/** The options given for a guest contradict each other or cannot be expressed. */
export class GuestOptionsError extends RigError {
  override name = "GuestOptionsError";
}

/** The guest did not finish in time; QEMU was killed. */
export class GuestTimeoutError extends RigError {
  override name = "GuestTimeoutError";

  constructor(readonly timeoutMs: number, readonly phase: string, readonly consoleTail: string) {
    super(
      `guest killed after ${timeoutMs} ms (${phase}); raise the timeout if it was only slow. ` +
        `Last lines of its console:\n${consoleTail}`,
    );
  }
}

/** QEMU ended without the guest having reported an exit status. */
export class GuestCrashError extends RigError {
  override name = "GuestCrashError";

  constructor(readonly qemuCode: number, readonly phase: string, readonly consoleTail: string) {
    super(
      `QEMU ended with status ${qemuCode} before the guest reported a result (${phase}). ` +
        `Last lines of its console:\n${consoleTail}`,
    );
  }
}
