/** A server of another protocol: sends the text of its second argument to each client of the socket that is the first. */
import { sleepBlocking, UnixListener, type UnixSocket } from "../../../ffi/mod.ts";

const [path = "", text = ""] = Deno.args;
const listener = UnixListener.listen(path);
const clients: UnixSocket[] = [];
console.log("ready");
while (true) {
  const client = listener.accept();
  if (client === undefined) sleepBlocking(1);
  else {
    client.send(new TextEncoder().encode(text));
    clients.push(client);
  }
}
