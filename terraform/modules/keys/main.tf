# Two keys: one encrypts data at rest, one signs model packages. Who may use them is said in the IAM policies of each
# role; the key policies hand that decision to the account and let in the services that act by themselves.

data "aws_iam_policy_document" "account" {
  #checkov:skip=CKV_AWS_109:a key policy of an account's root delegates to IAM; its resource is the key itself
  #checkov:skip=CKV_AWS_111:a key policy of an account's root delegates to IAM; its resource is the key itself
  #checkov:skip=CKV_AWS_356:in a key policy * is the key itself
  statement {
    sid       = "DelegateToIam"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${var.partition}:iam::${var.account_id}:root"]
    }
  }
}

data "aws_iam_policy_document" "data" {
  #checkov:skip=CKV_AWS_111:the services that encrypt by themselves; in a key policy * is the key itself
  #checkov:skip=CKV_AWS_356:in a key policy * is the key itself
  source_policy_documents = [data.aws_iam_policy_document.account.json]

  statement {
    sid       = "LogGroups"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${var.region}.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = ["arn:${var.partition}:logs:${var.region}:${var.account_id}:log-group:*"]
    }
  }

  statement {
    sid       = "AlertTopic"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["budgets.amazonaws.com", "cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.account_id]
    }
  }

  # EventBridge does not tell KMS the account; with a condition every alert would be lost without a word.
  statement {
    sid       = "AlertRules"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
  }
}

resource "aws_kms_key" "data" {
  description             = "${var.prefix}: data at rest"
  enable_key_rotation     = true
  deletion_window_in_days = var.deletion_window_days
  policy                  = data.aws_iam_policy_document.data.json
}

resource "aws_kms_alias" "data" {
  name          = "alias/${var.prefix}-data"
  target_key_id = aws_kms_key.data.key_id
}

resource "aws_kms_key" "signing" {
  description              = "${var.prefix}: signs model packages"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = "ECC_NIST_P256"
  deletion_window_in_days  = var.deletion_window_days
  policy                   = data.aws_iam_policy_document.account.json
}

resource "aws_kms_alias" "signing" {
  name          = "alias/${var.prefix}-signing"
  target_key_id = aws_kms_key.signing.key_id
}

data "aws_kms_public_key" "signing" {
  key_id = aws_kms_key.signing.arn
}
