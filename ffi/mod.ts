/**
 * The C library behind typed wrappers: the only folder that names a pointer, a descriptor number or an ioctl.
 *
 * Imports from here need `--allow-ffi` and nothing else.
 *
 * @module
 */
export * from "./epoll.ts";
export * from "./errno.ts";
export * from "./event_fd.ts";
export * from "./fd.ts";
export * from "./file.ts";
export * from "./guarded_copy.ts";
export * from "./ioctl.ts";
export * from "./lock.ts";
export * from "./memory.ts";
export * from "./net_interface.ts";
export * from "./new_file.ts";
export * from "./parcel.ts";
export * from "./poll.ts";
export * from "./shared_file.ts";
export * from "./syscall_error.ts";
export * from "./system.ts";
export * from "./terminal.ts";
export * from "./timer_fd.ts";
export * from "./unix_socket.ts";
