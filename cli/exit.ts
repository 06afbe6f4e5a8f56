/**
 * Exit statuses.
 *
 * @module
 */

/** 1 the operation failed or was refused, 2 the request itself was wrong. 128 and more: ended by a signal. */
export const EXIT = { ok: 0, failed: 1, usage: 2 } as const;
