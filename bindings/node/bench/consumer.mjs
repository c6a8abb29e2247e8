// Takes and closes as many handles as it is told to, by whichever way they come.

import { Receiver } from 'sendfd';

const receiver = new Receiver(Number(process.argv[2]));
let left = 0;
const took = () => {
  if (--left === 0) process.send('done');
};
process.on('message', (message, handle) => {
  if (handle) {
    handle.close();
    took();
  } else {
    left = message.count;
    process.send('ready');
  }
});
receiver.on('message', (message) => {
  message.close();
  took();
});
process.on('disconnect', () => receiver.close());
process.send('listening');
