// Sends its standard input: send.mjs PID SIG.
import sendfd from '../../bindings/node/dist/index.js';

const [pid, sig] = process.argv.slice(2).map(Number);
sendfd.sendSync(pid, sig, 0);
