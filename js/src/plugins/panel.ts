/** Makes the panel and puts it into the left side bar. */
import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { IStateDB } from '@jupyterlab/statedb';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Api, serverRequest } from '../api';
import { sshCommand } from '../connect';
import { SSHModel } from '../model';
import { SSHPanelWidget, targetOf } from '../panel';
import { ISSHPanel, NAMESPACE, type IHub } from '../tokens';

export const panelPlugin: JupyterFrontEndPlugin<ISSHPanel> = {
  id: `${NAMESPACE}:panel`,
  description: 'The SSH panel: keys and how to connect.',
  autoStart: true,
  provides: ISSHPanel,
  optional: [ILayoutRestorer, ITranslator, IStateDB],
  activate: (
    app: JupyterFrontEnd,
    restorer: ILayoutRestorer | null,
    translator: ITranslator | null,
    state: IStateDB | null
  ): ISSHPanel => {
    const languages = translator ?? nullTranslator;
    const trans = languages.load('jhssh');
    const unreachable = trans.__('This server does not answer. Is it still running?');
    const model = new SSHModel(new Api(serverRequest(app.serviceManager.serverSettings), unreachable));
    const folder = serverFolder();
    const panel = new SSHPanelWidget({ model, translator: languages, state, hub: hub(), folder });
    panel.disposed.connect(() => model.dispose());
    app.shell.add(panel, 'left', { rank: 850, type: 'SSH' });
    restorer?.add(panel, panel.id);
    return {
      open: () => app.shell.activateById(panel.id),
      addKey: async () => {
        // The palette gives the focus back to where it was once its command was called: ours is asked for after that.
        await Promise.resolve();
        panel.wantKeyField();
        app.shell.activateById(panel.id);
      },
      connectCommand: async () => {
        if (!model.status) {
          await model.refresh();
        }
        const target = targetOf(model.status, folder);
        return target && sshCommand(target);
      }
    };
  }
};

function hub(): IHub | null {
  const prefix = PageConfig.getOption('hubPrefix');
  const origin = PageConfig.getOption('hubHost');
  return prefix ? { origin, home: URLExt.join(origin, prefix, 'home') } : null;
}

/** The folder that Lab shows, where it is an absolute path. */
function serverFolder(): string {
  const root = PageConfig.getOption('serverRoot');
  return root.startsWith('/') ? root.replace(/\/+$/, '') : '';
}
