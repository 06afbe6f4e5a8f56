/**
 * Whether the host itself uses a network interface or a disk: the seam between the guards and the machine they guard.
 *
 * @module
 */

/** Looks up uses. Each answer is a list of phrases such as `carries the default route`; empty when the host does not use it. */
export interface HostUsage {
  /** How the host uses a network interface. */
  netInterface(name: string): string[];
  /** How the host uses a disk or anything on it. */
  blockDevice(name: string): string[];
}
