/**
 * The process of a PF's driver: gives it two VFs, answers register requests for them on a UNIX socket (see `register_wire.ts`), until it is killed.
 * Arguments: the host's directory, the socket's path.
 */
import { VirtioAdmin } from "../../../drivers/admin/virtio_admin.ts";
import { UnixListener } from "../../../ffi/mod.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { answer, receiveAll, REQUEST_BYTES } from "./register_wire.ts";

const [directory = "", path = ""] = Deno.args;
const PF = "0000:01:00.0";
using host = EmulatedHost.connect(directory);
if (host.describe(PF).driver !== "vfio-pci") host.bind(PF);
using device = host.open(PF);
using transport = PciModernTransport.open(device);
await using admin = await VirtioAdmin.open(transport);
if (host.describe(PF).sriov!.numVfs === 0) await admin.admin.quiet(() => void host.setVfCount(PF, 2));
const areas = admin.member(0).legacy.notifyAreas();
using listener = UnixListener.listen(path);
console.log(JSON.stringify(areas));
let socket;
while ((socket = listener.accept()) === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
using connection = socket;
const request = new Uint8Array(REQUEST_BYTES);
while (receiveAll(connection, request)) {
  answer(request, (vf) => admin.member(vf).legacy);
  connection.send(request);
}
