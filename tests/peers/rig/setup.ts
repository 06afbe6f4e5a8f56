/**
 * Fetches third-party programs that the tests and benchmarks drive: `deno task peers:setup`.
 *
 * Debian packages, unpacked below `.rig/` without installing anything, as the guest rig has its own. It can be run again at any time and
 * then does only what is missing.
 */
import { prepareApt } from "../../guest/rig/apt.ts";
import { RigError, SetupError } from "../../guest/rig/errors.ts";
import { PATHS } from "../../guest/rig/paths.ts";
import { fillSysroot } from "../../guest/rig/sysroot.ts";

/** Of DPDK: what drives and serves vhost-user, and what testpmd is linked with. The number is that of the libraries' interface, one a release. */
const DPDK = [
  "net-vhost25",
  "net-virtio25",
  "mempool-ring25",
  "bitratestats25",
  "bpf25",
  "cmdline25",
  "crypto-scheduler25",
  "gro25",
  "gso25",
  "latencystats25",
  "net-bnxt25",
  "net-bond25",
  "net-dpaa25",
  "net-i40e25",
  "net-iavf25",
  "net-ice25",
  "net-ixgbe25",
  "net-mlx5-25",
  "pdump25",
].map((name) => `librte-${name}`);

const PACKAGES = [...DPDK, "qemu-utils", "libblkio1", "passt"];
/** testpmd; the line buffering of `stdbuf`; QEMU's module for libblkio, whose package depends on the libraries of all modules; libblkio's header. */
const ALONE = ["dpdk-dev", "coreutils", "qemu-block-extra/trixie-backports", "libblkio-dev"];

if (import.meta.main) {
  const log = (line: string) => console.log(`peers: ${line}`);
  const start = performance.now();
  try {
    if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
      throw new SetupError(
        `the packages are for x86-64 Linux; this is ${Deno.build.os} on ${Deno.build.arch}: install the programs instead`,
      );
    }
    const needApt = async () => void await prepareApt(log);
    const sysroot = { folder: PATHS.peers, packages: PACKAGES, alone: ALONE };
    const done = await fillSysroot(sysroot, needApt, log);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    log(done ? `ready after ${seconds} s: deno task test:peers` : "already there: deno task test:peers");
  } catch (error) {
    if (!(error instanceof RigError)) throw error;
    console.error(`peers: ${error.message}`);
    Deno.exit(1);
  }
}
