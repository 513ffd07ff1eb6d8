// {{name}}: answers as its adapter does, streamed.
import { Generation } from 'coldframe:function/model@0.1.0';
import * as reply from 'coldframe:function/reply@0.1.0';
import * as log from 'coldframe:function/log@0.1.0';

/** What the caller asked for: the conversation, the prompt as it stands, or the body of an `invoke`. */
function input(request) {
  if (request.route === 'chat') return { tag: 'chat', val: request.messages };
  if (request.route === 'completion') return { tag: 'raw', val: request.prompt };
  const content = new TextDecoder().decode(request.body);
  return { tag: 'chat', val: [{ role: 'user', content }] };
}

export const handler = {
  // What is thrown as { code, message } becomes an error of the call.
  handle(request) {
    const task = { input: input(request), params: request.params, shape: { tag: 'free' } };
    const generation = new Generation(task);
    for (let event = generation.next(); event; event = generation.next()) {
      const { text } = event.val;
      if (text) reply.write(text);
      if (event.tag === 'end') {
        if (event.val.reason === 'length') reply.finish('length');
        log.write('info', `${event.val.completionTokens} tokens`);
      }
    }
  },
};
