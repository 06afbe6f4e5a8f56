/**
 * Answers that several commands give.
 *
 * @module
 */
import type { AdminOutcome } from "./handler.ts";

/** Done, and nothing to say. */
export const OK: AdminOutcome = { status: "OK" };
/** `group_type` means nothing, or the group does not exist now. */
export const INVALID_GROUP: AdminOutcome = { status: "EINVAL", qualifier: "INVALID_GROUP" };
/** There is no such command, or it is not in use. */
export const INVALID_OPCODE: AdminOutcome = { status: "EINVAL", qualifier: "INVALID_OPCODE" };
/** There is no such member, or it has not what the command is about. */
export const INVALID_MEMBER: AdminOutcome = { status: "EINVAL", qualifier: "INVALID_MEMBER" };
/** Something in `command_specific_data`. */
export const INVALID_FIELD: AdminOutcome = { status: "EINVAL", qualifier: "INVALID_FIELD" };
/** An object or a capability of that id: there is none. */
export const NO_SUCH_ID: AdminOutcome = { status: "ENXIO", qualifier: "INVALID_FIELD" };
/** More than fits, into the device or into the room for the result. */
export const NO_ROOM: AdminOutcome = { status: "ENOMEM", qualifier: "NORESOURCE" };
/** Not in the state that it has now. */
export const BUSY: AdminOutcome = { status: "EBUSY", qualifier: "INVALID_COMMAND" };
