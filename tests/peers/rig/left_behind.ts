/** Starts a peer in the folder of its argument, prints the process id and does nothing more, until somebody kills it. */
import { Testpmd } from "./testpmd.ts";

const testpmd = await Testpmd.device({ socket: `${Deno.args[0]}/vhost.sock` });
console.log(testpmd.peer.pid);
await new Promise(() => setInterval(() => {}, 1000));
