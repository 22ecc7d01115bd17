import * as vscode from 'vscode';
import type { LanguageClient, Middleware } from 'vscode-languageclient/node';

type Ask = Parameters<NonNullable<Middleware['provideInlineCompletionItems']>>[4];


/** Tells the server what the editor shows and what is accepted of it in parts; VS Code itself tells neither. */
export class Shown {
  private latest: { uri: string; item: vscode.InlineCompletionItem } | undefined;

  /** `client` is the one that is running at the time of the call. */
  constructor(private readonly client: () => LanguageClient | undefined) {}

  /** Passes a request on to the server and its answer back. */
  async provide(
    document: vscode.TextDocument,
    position: vscode.Position,
    context: vscode.InlineCompletionContext,
    token: vscode.CancellationToken,
    next: Ask,
  ): Promise<vscode.InlineCompletionItem[] | vscode.InlineCompletionList | null | undefined> {
    const answer = await next(document, position, context, token);
    const item = (answer && 'items' in answer ? answer.items : answer)?.[0];
    if (item && !token.isCancellationRequested) {
      this.latest = { uri: document.uri.toString(), item };
      this.notify('textDocument/didShowCompletion', item);
    }
    return answer;
  }

  /** Runs one of VS Code's partial accepts and reports how far into the completion it went. */
  async acceptPart(command: string): Promise<void> {
    const shown = this.latest;
    await vscode.commands.executeCommand(command);
    const editor = vscode.window.activeTextEditor;
    if (!editor || !shown?.item.range || shown.uri !== editor.document.uri.toString()) {
      return;
    }
    const text = textOf(shown.item);
    const accepted = editor.document.getText(new vscode.Range(shown.item.range.start, editor.selection.active));
    const sameLineEnds = accepted.replaceAll('\r\n', '\n');
    // When all of it is there, VS Code has run the item's own command.
    if (sameLineEnds.length < text.length && text.startsWith(sameLineEnds)) {
      this.notify('textDocument/didPartiallyAcceptCompletion', shown.item, { acceptedLength: sameLineEnds.length });
    }
  }

  private notify(method: string, item: vscode.InlineCompletionItem, more: object = {}): void {
    const client = this.client();
    const range = item.range && client?.code2ProtocolConverter.asRange(item.range);
    const { command } = item;
    void client?.sendNotification(method, { item: { insertText: textOf(item), range, command }, ...more });
  }
}

function textOf(item: vscode.InlineCompletionItem): string {
  return typeof item.insertText === 'string' ? item.insertText : item.insertText.value;
}
