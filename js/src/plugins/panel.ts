/** Makes the panel and puts it into the left side bar. */
import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { IStateDB } from '@jupyterlab/statedb';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Api, serverRequest } from '../api';
import { sshCommand } from '../connect';
import { SSHModel } from '../model';
import { SSHPanelWidget, targetOf } from '../panel';
import { ISSHPanel, NAMESPACE } from '../tokens';

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
    const panel = new SSHPanelWidget({ model, translator: languages, state, homeUrl: hubHome(), folder });
    panel.disposed.connect(() => model.dispose());
    app.shell.add(panel, 'left', { rank: 850, type: 'SSH' });
    restorer?.add(panel, panel.id);
    return {
      open: () => app.shell.activateById(panel.id),
      addKey: async () => {
        app.shell.activateById(panel.id);
        if (!model.store) {
          await model.refresh();
        }
        panel.focusKeyField();
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

/** The page of the Hub on which servers are stopped and started; empty without a Hub. */
function hubHome(): string {
  const prefix = PageConfig.getOption('hubPrefix');
  return prefix && URLExt.join(PageConfig.getOption('hubHost') || '', prefix, 'home');
}

/** The folder that Lab shows, where it is an absolute path. */
function serverFolder(): string {
  const root = PageConfig.getOption('serverRoot');
  return root.startsWith('/') ? root.replace(/\/+$/, '') : '';
}
