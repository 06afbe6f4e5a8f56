/**
 * Error numbers of Linux (x86-64 and AArch64 share them), with names and short texts.
 *
 * `node:util` has the half of them that libuv knows, with texts of its own.
 *
 * @module
 */
import { libc } from "./libc.ts";

/** In the order of their numbers, from 1 on; `-` for a number that Linux has no error for. */
const NAMES = `
  EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY
  EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK
  EPIPE EDOM ERANGE EDEADLOCK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC
  EL3HLT EL3RST ELNRNG EUNATCH ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR
  ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG
  EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE
  EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT ENOTSUP
  EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED
  ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH
  EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE
  ECANCELED ENOKEY EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL
`.trim().split(/\s+/);

/** Number by name, such as `errnoNumber.ENOENT`. */
export const errnoNumber: Readonly<Record<string, number>> = Object.fromEntries(
  NAMES.map((name, at) => [name, at + 1]).filter(([name]) => name !== "-"),
);

/** Name of an error number, such as `ENOENT`; `errno 4095` when it has none. */
export function errnoName(number: number): string {
  const name = NAMES[number - 1] ?? "-";
  return name === "-" ? `errno ${number}` : name;
}

/** What the C library says about an error number. */
export function errnoText(number: number): string {
  return libc.strerror(number);
}
