# A domain name of one's own. Without a certificate one is made and proved in the zone.

locals {
  makes_certificate = var.domain.certificate_arn == null
  has_zone          = var.domain.zone_id != null
  proof             = local.makes_certificate ? one(aws_acm_certificate.this[0].domain_validation_options) : null
}

resource "aws_acm_certificate" "this" {
  count = local.makes_certificate ? 1 : 0

  domain_name       = var.domain.name
  validation_method = "DNS"

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "proof" {
  count = local.makes_certificate ? 1 : 0

  zone_id         = var.domain.zone_id
  name            = local.proof.resource_record_name
  type            = local.proof.resource_record_type
  records         = [local.proof.resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "this" {
  count = local.makes_certificate ? 1 : 0

  certificate_arn         = aws_acm_certificate.this[0].arn
  validation_record_fqdns = [aws_route53_record.proof[0].fqdn]
}

resource "aws_apigatewayv2_domain_name" "this" {
  domain_name = var.domain.name

  domain_name_configuration {
    certificate_arn = local.makes_certificate ? aws_acm_certificate_validation.this[0].certificate_arn : var.domain.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "this" {
  api_id      = var.api_id
  domain_name = aws_apigatewayv2_domain_name.this.id
  stage       = var.stage_name
}

resource "aws_route53_record" "this" {
  count = local.has_zone ? 1 : 0

  zone_id = var.domain.zone_id
  name    = var.domain.name
  type    = "A"

  alias {
    name                   = aws_apigatewayv2_domain_name.this.domain_name_configuration[0].target_domain_name
    zone_id                = aws_apigatewayv2_domain_name.this.domain_name_configuration[0].hosted_zone_id
    evaluate_target_health = false
  }
}
