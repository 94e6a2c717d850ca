// Checked by `npm run types`, not run: what an editor tells the user.
import { alias, Configuration, configuration, type Shaped, NoAlias, Parameters } from 'pointsman-runtime';

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const yes: <T extends true>() => void = () => {};

const context = { invokedFunctionArn: 'arn:aws:lambda:eu-west-1:123456789012:function:greeting:PROD', more: 1 };
const named: string | undefined = alias(context);
const plain = await configuration(context);
const topic: string = plain.topic;

const settings = new Configuration(new Parameters('/greeting/{alias}', { maxAge: 60 }), {
  shape: { topic: 'string', retries: 'number?', tags: 'string[]', db: { host: 'string' } },
  fallback: 'STAGE',
});
const config = await settings.read(context);
yes<Same<typeof config.topic, string>>();
yes<Same<typeof config.tags, string[]>>();
yes<Same<typeof config.db.host, string>>();
const retries: number = config.retries ?? 3;
// @ts-expect-error: it may be missing
const certain: number = config.retries;
// @ts-expect-error: the shape does not have it
config.queue;
// @ts-expect-error: no such kind
new Configuration(undefined, { shape: { topic: 'text' } });

const checked = new Configuration(undefined, { shape: (found: { topic: string }) => ({ at: new Date(found.topic) }), fallback: null });
yes<Same<Awaited<ReturnType<typeof checked.read>>, { at: Date }>>();

interface Mine {
  topic: string;
}
const trusted: Mine = await new Configuration<Mine>().read(context);
yes<Same<Shaped<{ topic: 'string' }>['topic'], string>>();
const where: string = new NoAlias('here', 'none').where;

void [named, topic, retries, certain, trusted, where];
