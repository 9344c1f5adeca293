# Events: the bus, and per consumer a rule, a queue and a dead-letter queue. A rule delivers to the consumer's queue; the
# function takes from it in batches, and what failed five times waits in the dead-letter queue.

locals {
  bus = aws_cloudwatch_event_bus.this.name

  # Which events each function takes. State changes of jobs come on the account's default bus, as AWS Batch sends them.
  rules = { for name, rule in local.all_rules : name => rule if name != "training-jobs" || length(var.job_queue_arns) > 0 }
  all_rules = {
    training-jobs = {
      consumer = "training"
      bus      = "default"
      pattern  = { source = ["aws.batch"], "detail-type" = ["Batch Job State Change"], detail = { jobQueue = var.job_queue_arns } }
    }
    training = {
      consumer = "training"
      bus      = local.bus
      pattern  = { "detail-type" = ["Maintenance Due"] }
    }
    compile = {
      consumer = "compile"
      bus      = local.bus
      pattern  = { source = ["moola", "moola.schedule"], "detail-type" = ["Maintenance Due", "Model Version Registered", "Stage Changed"] }
    }
    drift = {
      consumer = "drift"
      bus      = local.bus
      pattern  = { "detail-type" = ["Drift Check Due"] }
    }
    # Everything, Retrain Due included: it keeps the event log too.
    react = {
      consumer = "react"
      bus      = local.bus
      pattern  = { source = [{ prefix = "moola" }] }
    }
  }
  consumers = toset(keys(var.timeout_secs))
}

resource "aws_cloudwatch_event_bus" "this" {
  name        = var.prefix
  description = "What happens in ${var.prefix}."
}

resource "aws_cloudwatch_event_archive" "this" {
  name             = var.prefix
  description      = "Events of the bus, to be replayed."
  event_source_arn = aws_cloudwatch_event_bus.this.arn
  retention_days   = var.archive_retention_days
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.rules

  name           = "${var.prefix}-${each.key}"
  description    = "To the queue of ${each.value.consumer}."
  event_bus_name = each.value.bus
  event_pattern  = jsonencode(each.value.pattern)
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = local.rules

  rule           = aws_cloudwatch_event_rule.this[each.key].name
  event_bus_name = each.value.bus
  target_id      = each.value.consumer
  arn            = aws_sqs_queue.this[each.value.consumer].arn

  dead_letter_config {
    arn = aws_sqs_queue.dead[each.value.consumer].arn
  }
}

resource "aws_sqs_queue" "dead" {
  for_each = local.consumers

  name                      = "${var.prefix}-${each.key}-dead"
  message_retention_seconds = 14 * 86400
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue" "this" {
  for_each = local.consumers

  name                      = "${var.prefix}-${each.key}"
  message_retention_seconds = 4 * 86400
  sqs_managed_sse_enabled   = true

  # Six times the function's timeout, as AWS advises: a batch that is being tried again must not be handed out meanwhile.
  visibility_timeout_seconds = 6 * var.timeout_secs[each.key]

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead[each.key].arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  for_each = local.consumers

  queue_url = aws_sqs_queue.dead[each.key].id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.this[each.key].arn]
  })
}

data "aws_iam_policy_document" "queue" {
  for_each = merge(
    { for name, queue in aws_sqs_queue.this : name => { arn = queue.arn, consumer = name } },
    { for name, queue in aws_sqs_queue.dead : "${name}-dead" => { arn = queue.arn, consumer = name } },
  )

  statement {
    sid       = "Rules"
    actions   = ["sqs:SendMessage"]
    resources = [each.value.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for name, rule in local.rules : aws_cloudwatch_event_rule.this[name].arn if rule.consumer == each.value.consumer]
    }
  }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [each.value.arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "this" {
  for_each = local.consumers

  queue_url = aws_sqs_queue.this[each.key].id
  policy    = data.aws_iam_policy_document.queue[each.key].json
}

resource "aws_sqs_queue_policy" "dead" {
  for_each = local.consumers

  queue_url = aws_sqs_queue.dead[each.key].id
  policy    = data.aws_iam_policy_document.queue["${each.key}-dead"].json
}
