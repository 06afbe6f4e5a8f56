/**
 * Facts about network interfaces that no file tells.
 *
 * @module
 */
import { errnoNumber } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";
import { check, checkUnless, isErrno } from "./syscall_error.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SIOCGIFADDR = 0x8915n;
const NAME_BYTES = 16;
// struct ifreq: the name, then a struct sockaddr_in: family u16, port u16, address in network order.
const REQUEST_BYTES = 40;
const ADDRESS_AT = NAME_BYTES + 4;

/**
 * Primary IPv4 address of an interface in this network namespace, also of one that is down; undefined when it has none or there
 * is no such interface. (`/proc/net/fib_trie` lists addresses without their interfaces, `/proc/net/route` only what is up.)
 * @throws SyscallError
 */
export function interfaceIpv4Address(name: string): string | undefined {
  const bytes = new TextEncoder().encode(name);
  if (bytes.byteLength === 0 || bytes.byteLength >= NAME_BYTES) return undefined;
  const request = new Uint8Array(REQUEST_BYTES);
  request.set(bytes);
  let socket: OwnedFd;
  try {
    socket = new OwnedFd(check(libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket", name), name);
  } catch (error) {
    // A kernel without IPv4 has no addresses of it.
    if (isErrno(error, "EAFNOSUPPORT")) return undefined;
    throw error;
  }
  using _socket = socket;
  try {
    const got = checkUnless(
      libc.ioctlBuffer(socket.number, SIOCGIFADDR, request),
      errnoNumber.EADDRNOTAVAIL!,
      "ioctl SIOCGIFADDR",
      name,
    );
    if (got < 0) return undefined;
  } catch (error) {
    if (isErrno(error, "ENODEV", "ENXIO")) return undefined;
    throw error;
  }
  return request.subarray(ADDRESS_AT, ADDRESS_AT + 4).join(".");
}
